"""The image, by itself and as the manifests for Kubernetes run it: three containers with their environment, user, volumes and
names, on a network of this machine. What Kubernetes itself does, only the schemas check."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, run, the
from test_kubernetes import base, named, tls

pytestmark = pytest.mark.containers
NAMESPACE = "shop"


@pytest.fixture(scope="session")
def loaded(packages: Path, version: str) -> str:
    if not list(packages.glob("*-image.tar.gz")):
        pytest.skip("the binary is not static, so there is no image of it")
    said = run("docker", "load", "--input", the(packages, "*-image.tar.gz")).stdout
    assert f"Loaded image: liminal:{version}" in said
    return f"liminal:{version}"


def test_the_image_is_what_the_builder_makes_of_its_recipe(loaded: str, binary: Path, tmp_path: Path) -> None:
    run("cp", "-r", "--parents", "cluster/image", "cluster/Dockerfile.prebuilt", tmp_path, cwd=ROOT)
    (tmp_path / "cluster/bin").mkdir()
    run("cp", binary, tmp_path / "cluster/bin/liminal")
    tag = f"liminal-test:{uuid.uuid4().hex[:8]}"
    run("docker", "build", "--quiet", "--file", tmp_path / "cluster/Dockerfile.prebuilt", "--tag", tag, tmp_path, timeout=300)
    try:
        found = [json.loads(run("docker", "image", "inspect", image).stdout)[0] for image in (loaded, tag)]
        listed = []
        for image in (loaded, tag):
            container = run("docker", "create", image).stdout.strip()
            tar = run("sh", "-c", f"docker export {container} | tar -tv --numeric-owner").stdout
            run("docker", "rm", "--volumes", container)
            # Without sizes and times; what the daemon adds to every container is in both.
            lines = [line.split() for line in tar.splitlines()]
            listed.append(sorted((line[-1], line[0], line[1]) for line in lines))
    finally:
        run("docker", "image", "rm", tag)
    for part in ("User", "Env", "Entrypoint", "Cmd", "Volumes", "ExposedPorts", "StopSignal"):
        assert found[0]["Config"].get(part) == found[1]["Config"].get(part), part
    assert found[0]["Architecture"] == found[1]["Architecture"]
    assert listed[0] == listed[1]


class Pods:
    """Replicas of the StatefulSet, as far as Docker can be made to run them."""

    def __init__(self, image: str, manifests: list[dict], secrets: dict[str, Path], token_hash: str, work: Path) -> None:
        self.image, self.secrets, self.token_hash = image, secrets, token_hash
        self.prefix = f"liminal-test-{uuid.uuid4().hex[:8]}"
        nodes = named(manifests, "StatefulSet")["spec"]
        self.service, self.pod = nodes["serviceName"], nodes["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.config = work / "node.toml"
        self.config.write_text(named(manifests, "ConfigMap")["data"]["node.toml"])
        self.config.chmod(0o644)
        self.volumes: list[str] = []
        self.running: dict[int, str] = {}
        run("docker", "network", "create", "--internal", self.prefix)

    def environment(self, pod: str) -> dict[str, str]:
        values: dict[str, str] = {}
        fields = {"metadata.name": pod, "metadata.namespace": NAMESPACE}
        for variable in self.container["env"]:
            if "value" in variable:
                value = re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], variable["value"])
            elif "fieldRef" in variable["valueFrom"]:
                value = fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                assert variable["valueFrom"]["secretKeyRef"]["key"] == "bootstrap-token-hash"
                value = self.token_hash
            values[variable["name"]] = value
        return values

    def start(self, ordinal: int) -> None:
        pod = f"liminal-{ordinal}"
        security, own = self.pod["securityContext"], self.container["securityContext"]
        assert own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False
        words = ["--read-only", "--security-opt=no-new-privileges", f"--user={security['runAsUser']}:{security['runAsGroup']}"]
        words += [f"--group-add={security['fsGroup']}", *(f"--cap-drop={one}" for one in own["capabilities"]["drop"])]
        words += ["--memory=1g", f"--stop-timeout={self.pod['terminationGracePeriodSeconds']}"]
        for name in (f"{self.service}.{NAMESPACE}.svc", f"{pod}.{self.service}.{NAMESPACE}.svc"):
            words.append(f"--network-alias={name}")
        for name, value in self.environment(pod).items():
            words.append(f"--env={name}={value}")
        volume = f"{self.prefix}-{ordinal}"
        sources = {"data": volume, "config": self.config} | self.secrets
        self.volumes.append(volume)
        for mount in self.container["volumeMounts"]:
            only = ":ro" if mount.get("readOnly") else ""
            words.append(f"--volume={sources[mount['name']]}:{mount['mountPath']}{only}")
        command = ["docker", "run", "--detach", f"--hostname={pod}", f"--network={self.prefix}", *words]
        self.running[ordinal] = run(*command, self.image, *self.container["args"]).stdout.strip()

    def delete(self, ordinal: int) -> None:
        """As when a machine is lost: the volume stays."""
        run("docker", "rm", "--force", "--volumes", self.running.pop(ordinal))

    def cli(self, *words: str, token: str = "", ca: bool = False, check: bool = True, timeout: float = 60) -> str:
        scheme = "https" if ca else "http"
        servers = ",".join(f"{scheme}://liminal-{n}.{self.service}.{NAMESPACE}.svc:7101" for n in self.running)
        options = ["--ca", "/etc/liminal/tls/ca.crt"] if ca else []
        command = ["docker", "run", "--rm", f"--network={self.prefix}", f"--env=LIMINAL_TOKEN={token}"]
        command += [f"--volume={self.secrets['tls']}:/etc/liminal/tls:ro"] if ca else []
        done = run(*command, self.image, *options, "--server", servers, *words, check=False, timeout=timeout)
        if check and done.returncode:
            logs = [run("docker", "logs", "--tail", "20", one, check=False).stderr for one in self.running.values()]
            raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n" + "\n--\n".join(logs))
        return done.stdout.strip()

    def until_there_are(self, voters: int, **options) -> None:
        end = time.monotonic() + 90
        while True:
            said = self.cli("-o", "json", "cluster", "status", check=False, **options)
            nodes = json.loads(said)["nodes"] if said else []
            if [(node["role"] in ("leader", "follower"), node["health"]) for node in nodes] == [(True, "ok")] * voters:
                return
            if time.monotonic() > end:
                logs = [run("docker", "logs", "--tail", "20", one, check=False).stderr for one in self.running.values()]
                raise AssertionError(f"there are not {voters} voters: {said}\n" + "\n--\n".join(logs))
            time.sleep(1)

    def end(self) -> None:
        for container in self.running.values():
            run("docker", "rm", "--force", "--volumes", container, check=False)
        for volume in set(self.volumes):
            run("docker", "volume", "rm", volume, check=False)
        run("docker", "network", "rm", self.prefix, check=False)


@pytest.fixture(params=["base", "tls"])
def pods(request, loaded: str, binary: Path, tmp_path: Path) -> Iterator[tuple[Pods, str, bool]]:
    """Three replicas, the token of the bootstrap, and whether they speak TLS."""
    over_tls = request.param == "tls"
    bootstrap = json.loads(run(binary, "-o", "json", "token", "bootstrap").stdout)
    token, token_hash = bootstrap["token"], bootstrap["bootstrap_token_hash"]
    secrets = {"secret": tmp_path / "secret"}
    secrets["secret"].mkdir()
    (secrets["secret"] / "cookie").write_text(uuid.uuid4().hex + "\n")
    if over_tls:
        secrets["tls"] = tmp_path / "certs"
        names = [f"liminal-{n}" for n in range(4)]
        hosts = [f"{name}.liminal-peers.{NAMESPACE}.svc" for name in names]
        run(binary, "certs", secrets["tls"], "--node", ",".join(names), "--host", ",".join(hosts))
    # A secret's files are root's, and the group may read them.
    for directory in secrets.values():
        directory.chmod(0o755)
        for file in directory.iterdir():
            file.chmod(0o440)
            run("chown", "0:10001", file)
    pods = Pods(loaded, tls() if over_tls else base(), secrets, token_hash, tmp_path)
    try:
        for ordinal in range(3):
            pods.start(ordinal)
        yield pods, token, over_tls
    finally:
        pods.end()


def test_three_replicas_become_a_cluster_that_outlives_one(pods: tuple[Pods, str, bool]) -> None:
    pods, bootstrap, over_tls = pods
    options = {"ca": over_tls}
    make = ["-o", "raw", "token", "create", "--role", "admin", "--description", "me"]
    end = time.monotonic() + 90
    while not (admin := pods.cli(*make, token=bootstrap, check=time.monotonic() > end, **options)):
        time.sleep(1)
    options["token"] = admin
    pods.until_there_are(3, **options)
    refused = pods.cli("channel", "list", check=False, ca=over_tls)
    assert "orders" not in refused
    pods.cli("channel", "create", "orders", **options)
    pods.cli("publish", "orders", '{"id":1}', "--key", "1", **options)

    # A pod of that name comes back at another address, with its volume.
    pods.delete(1)
    pods.cli("publish", "orders", '{"id":2}', "--key", "2", **options)
    pods.start(1)
    pods.until_there_are(3, **options)

    # One replica more joins, and votes.
    pods.start(3)
    pods.until_there_are(4, **options)
    said = pods.cli("-o", "raw", "subscribe", "orders", "--from", "earliest", "--count", "2", **options)
    assert said.splitlines() == ['{"id":1}', '{"id":2}']

    # The probes' command works where the port for it may not be reached.
    for container in pods.running.values():
        http = ["--http", "https://127.0.0.1:7201", "--ca", "/etc/liminal/tls/ca.crt"] if over_tls else []
        run("docker", "exec", container, "/liminal", "health", *http)
    run("docker", "stop", *pods.running.values(), timeout=90)
    for container in pods.running.values():
        assert run("docker", "inspect", "--format", "{{.State.ExitCode}}", container).stdout == "0\n"
