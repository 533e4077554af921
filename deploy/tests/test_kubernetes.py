"""The manifests: Kubernetes takes them, and they name only what the node has."""

import copy
import json
import re
import shutil
import tomllib
from collections.abc import Iterator

import jsonpatch
import kubernetes_validate
import pytest
import yaml
from conftest import DEPLOY, ROOT, run

BASE, TLS = DEPLOY / "kubernetes/base", DEPLOY / "kubernetes/tls"
# The oldest version that is still looked after when this was written, and the newest that the schemas are there for.
VERSIONS = ["1.34", "1.37"]
REFERENCE = (ROOT / "docs/CONFIGURATION.md").read_text()
VARIABLES = set(re.findall(r"`(LIMINAL_[A-Z0-9_]+)`", REFERENCE))
KEYS = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", REFERENCE, re.MULTILINE))
# The one key whose default is no address, and the port that docs/OPERATIONS.md gives it.
PEERS = 7301
PATHS = json.loads((ROOT / "src/http/openapi.json").read_text())["paths"]
LABELS = {"app.kubernetes.io/name": "liminal"}


def base() -> list[dict]:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    files = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == files, "kustomization.yaml lists what is there"
    return [one for name in listed for one in yaml.safe_load_all((BASE / name).read_text())]


def tls() -> list[dict]:
    """As kustomize patches them."""
    manifests = copy.deepcopy(base())
    for patch in yaml.safe_load((TLS / "kustomization.yaml").read_text())["patches"]:
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        (at,) = [n for n, one in enumerate(manifests) if (one["kind"], one["metadata"]["name"]) == (kind, name)]
        operations = yaml.safe_load((TLS / patch["path"]).read_text())
        manifests[at] = jsonpatch.JsonPatch(operations).apply(manifests[at])
    return manifests


def named(manifests: list[dict], kind: str, name: str = "liminal") -> dict:
    (found,) = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def keys(table: dict, before: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from keys(value, f"{before}{key}.")
        else:
            yield before + key


def default_port(key: str) -> int:
    (row,) = re.findall(rf'^\| `{key}` \|[^|]*\| `"127\.0\.0\.1:(\d+)"` \|', REFERENCE, re.MULTILINE)
    return int(row)


def judge(manifests: list[dict], versions: list[str] = VERSIONS[-1:]) -> list[str]:
    """Everything that is wrong with them."""
    wrong: list[str] = []

    def demand(holds: object, otherwise: str) -> None:
        if not holds:
            wrong.append(otherwise)

    for version in versions:
        for one in manifests:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong.append(f"{one['kind']}: Kubernetes {version}: {error.message}")
    nodes = named(manifests, "StatefulSet")["spec"]
    pod = nodes["template"]["spec"]
    (container,) = pod["containers"]

    # Variables and keys.
    known = set()
    for variable in container["env"]:
        name, value = variable["name"], variable.get("value", "")
        demand(not name.startswith("LIMINAL_") or name in VARIABLES, f"the node reads no variable {name}")
        for reference in re.findall(r"\$\(([^)]*)\)", value):
            demand(reference in known, f"{name} refers to {reference}, which does not stand before it")
        known.add(name)
    config = tomllib.loads(named(manifests, "ConfigMap")["data"]["node.toml"])
    for key in keys(config):
        demand(key in KEYS, f"the configuration has no key {key}")
    demand(pod["enableServiceLinks"] is False, "Kubernetes sets LIMINAL_* variables that are no keys")

    # Ports.
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expected = {"grpc": default_port("listen_address"), "http": default_port("health_listen_address"), "peers": PEERS}
    demand(ports == expected, f"the container's ports are {ports}, the node's {expected}")
    listens = {
        "grpc": config["listen_address"],
        "http": config["health_listen_address"],
        "peers": config["cluster"]["listen_address"],
    }
    for name, address in listens.items():
        demand(address == f"0.0.0.0:{ports.get(name)}", f"the node listens at {address} for {name}")
    values = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    advertised = {
        "LIMINAL_ADVERTISE_ADDRESS": "grpc",
        "LIMINAL_ADVERTISE_HTTP_ADDRESS": "http",
        "LIMINAL_CLUSTER__ADVERTISE_ADDRESS": "peers",
        "LIMINAL_CLUSTER__SEED_NODES": "peers",
    }
    peers = named(manifests, "Service", "liminal-peers")["spec"]
    for name, port in advertised.items():
        pattern = rf"(\$\(POD_NAME\)\.)?{nodes['serviceName']}\.\$\(POD_NAMESPACE\)\.svc:{expected[port]}"
        demand(re.fullmatch(pattern, values.get(name, "")), f"{name} is {values.get(name)}, which is no node's name")
    for service in (peers, named(manifests, "Service")["spec"]):
        for port in service["ports"]:
            demand(port["port"] == expected.get(port["name"]), f"the port {port['name']} of a service is {port['port']}")
            demand(port["targetPort"] == port["name"], f"the port {port['name']} of a service leads elsewhere")
    demand("peers" not in {port["name"] for port in named(manifests, "Service")["spec"]["ports"]}, "clients reach peers")
    demand(peers.get("publishNotReadyAddresses") and peers["clusterIP"] == "None", "fresh nodes cannot find each other")

    # Probes.
    over_tls = "LIMINAL_TLS__CERT" in values
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        get = container[probe]["httpGet"]
        demand("get" in PATHS.get(get["path"], {}), f"{probe}: the node does not serve {get['path']}")
        demand(get["port"] == "http", f"{probe}: it asks the port {get['port']}")
        demand((get.get("scheme") == "HTTPS") == over_tls, f"{probe}: it has the scheme {get.get('scheme', 'HTTP')}")
    demand(container["livenessProbe"]["httpGet"]["path"] != "/ready", "a lost majority would restart the others")

    # Who reaches what.
    policy = named(manifests, "NetworkPolicy")["spec"]
    demand(policy["podSelector"]["matchLabels"] == LABELS, "the policy is for other pods")
    for rule in policy["ingress"]:
        if "peers" in [port["port"] for port in rule.get("ports", [])] or "ports" not in rule:
            sources = rule.get("from", [{}])
            demand(sources == [{"podSelector": {"matchLabels": LABELS}}], "others than nodes reach the port for nodes")
    demand(config["security"]["mode"] == "enforce", "whoever is in the cluster may do everything")

    # What belongs together.
    for selector in (nodes["selector"]["matchLabels"], nodes["template"]["metadata"]["labels"], peers["selector"]):
        demand(selector == LABELS, f"{selector} selects something else")
    budget = named(manifests, "PodDisruptionBudget")["spec"]
    demand(budget["selector"]["matchLabels"] == LABELS and budget["maxUnavailable"] == 1, "drains take more than one node")
    demand(nodes["podManagementPolicy"] == "Parallel", "the second node waits for the first, which needs a majority")
    demand(config["cluster"]["expect"] == nodes["replicas"] == 3, "the nodes that found the cluster are not the replicas")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    claims = {claim["metadata"]["name"] for claim in nodes["volumeClaimTemplates"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    demand(set(mounts) == set(volumes) | claims, f"mounted are {set(mounts)}, there are {set(volumes) | claims}")
    demand(config["persistence_path"].startswith(mounts.get("data", "-") + "/"), "messages are not on the volume")
    cookie = f"{mounts.get('secret')}/{volumes.get('secret', {}).get('secret', {}).get('items', [{}])[0].get('path')}"
    demand(config["cluster"]["cookie_file"] == cookie, f"the cookie is at {cookie}")
    for name, value in values.items():
        if value.startswith("/"):
            demand(any(value.startswith(path + "/") for path in mounts.values()), f"{name} is in no volume")
    demand(pod["terminationGracePeriodSeconds"] * 1000 > 2 * config["drain_timeout_ms"], "nodes are killed while they drain")

    # What a node may do.
    security, own = pod["securityContext"], container["securityContext"]
    demand(security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}, "it may be root")
    demand(own["readOnlyRootFilesystem"] and own["allowPrivilegeEscalation"] is False, "it may change its image")
    demand(own["capabilities"] == {"drop": ["ALL"]}, "it has capabilities")
    demand(pod["automountServiceAccountToken"] is False, "it has a token of Kubernetes")
    return wrong


@pytest.mark.parametrize("manifests", [base, tls])
def test_nothing_is_wrong_with_the_manifests(manifests) -> None:
    assert judge(manifests(), VERSIONS) == []


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
@pytest.mark.parametrize("manifests, directory", [(base, BASE), (tls, TLS)])
def test_kustomize_makes_the_same_of_them(manifests, directory) -> None:
    made = list(yaml.safe_load_all(run("kubectl", "kustomize", directory).stdout))

    def by_name(one: dict) -> tuple[str, str]:
        return one["kind"], one["metadata"]["name"]

    assert sorted(made, key=by_name) == sorted(manifests(), key=by_name)


def test_the_image_is_of_this_version_and_runs_as_its_user(version: str) -> None:
    (container,) = named(base(), "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"liminal:{version}"
    (image,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert (image["name"], image["newTag"]) == ("liminal", version)
    user = named(base(), "StatefulSet")["spec"]["template"]["spec"]["securityContext"]
    recipe = (ROOT / "cluster/Dockerfile.prebuilt").read_text()
    assert f"\nUSER {user['runAsUser']}:{user['runAsGroup']}\n" in recipe


# Each change makes something wrong that the judge has to see: a path into the manifests, and what stands there instead.
MISTAKES = {
    "a variable that is no key": ("env/3/name", "LIMINAL_CLUSTER__SEEDS"),
    "a variable that comes too early": ("env/2/value", "$(POD_IP)"),
    "a path that is not served": ("readinessProbe/httpGet/path", "/readyz"),
    "a probe of the wrong port": ("livenessProbe/httpGet/port", "grpc"),
    "a liveness that needs the majority": ("livenessProbe/httpGet/path", "/ready"),
    "another port": ("ports/2/containerPort", 7300),
    "an address that no service has": ("env/4/value", "$(POD_NAME).liminal.$(POD_NAMESPACE).svc:7301"),
    "a type that Kubernetes does not take": ("ports/0/containerPort", "seventy"),
    "a field that Kubernetes does not know": ("livenessProbe/httpGet/url", "/health"),
    "a container that may write to its image": ("securityContext/readOnlyRootFilesystem", False),
    "messages beside the volume": ("volumeMounts/0/mountPath", "/elsewhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    manifests, (path, value) = copy.deepcopy(base()), MISTAKES[mistake]
    nodes = named(manifests, "StatefulSet")
    steps = ["spec", "template", "spec", "containers", 0, *(int(s) if s.isdigit() else s for s in path.split("/"))]
    inside: object = nodes
    for step in steps[:-1]:
        inside = inside[step]  # type: ignore[index]
    inside[steps[-1]] = value  # type: ignore[index]
    assert judge(manifests) != []


def test_an_open_port_for_nodes_is_found() -> None:
    manifests = copy.deepcopy(base())
    del named(manifests, "NetworkPolicy")["spec"]["ingress"][0]["from"]
    assert judge(manifests) == ["others than nodes reach the port for nodes"]
