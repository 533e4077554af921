"""The Debian package on a machine with systemd: installed, started, upgraded, removed and purged."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run, the

pytestmark = pytest.mark.containers
CONFIG = "/etc/liminal/liminal.toml"
DATA = "/var/lib/liminal"


class Machine:
    """A container in which systemd is the first process."""

    def __init__(self, package: Path) -> None:
        # What systemd needs to be one: control groups, mounts and its own filters of system calls.
        rights = ["--cap-add=SYS_ADMIN", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
        mounts = ["--tmpfs=/run", "--tmpfs=/tmp", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"]
        words = ["docker", "run", "--detach", "--network=none", "--env=container=docker", *rights, *mounts]
        self.id = run(*words, "liminal-test:debian", "/sbin/init").stdout.strip()
        run("docker", "cp", package, f"{self.id}:/liminal.deb")
        self.until("systemctl is-system-running", lambda said: said in ("running", "degraded"))

    def sh(self, script: str, check: bool = True, timeout: float = 120) -> str:
        done = run("docker", "exec", self.id, "sh", "-c", script, check=False, timeout=timeout)
        if check and done.returncode:
            journal = run("docker", "exec", self.id, "journalctl", "-n", "30", "--no-pager", check=False).stdout
            raise AssertionError(f"{script}: {done.returncode}\n{done.stdout}{done.stderr}\n{journal}")
        return (done.stdout + done.stderr).strip()

    def show(self, *properties: str) -> list[str]:
        said = self.sh(f"systemctl show liminal {' '.join('-p ' + one for one in properties)}")
        values = dict(line.split("=", 1) for line in said.splitlines())
        return [values[one] for one in properties]

    def until(self, script: str, holds, seconds: float = 60) -> str:
        end = time.monotonic() + seconds
        while not holds(said := self.sh(script, check=False)):
            assert time.monotonic() < end, f"{script} still says: {said}"
            time.sleep(0.3)
        return said


@pytest.fixture
def machine(packages: Path) -> Iterator[Machine]:
    machine = Machine(the(packages, "*.deb"))
    try:
        yield machine
    finally:
        run("docker", "rm", "--force", "--volumes", machine.id)


def test_a_node_lives_from_install_to_purge(machine: Machine, version: str) -> None:
    said = machine.sh("dpkg -i /liminal.deb")
    assert "systemctl enable --now liminal" in said
    assert machine.sh("liminal --version") == f"liminal {version}"
    assert machine.sh("getent passwd liminal").endswith(":/var/lib/liminal:/usr/sbin/nologin")
    assert machine.sh("systemctl is-enabled liminal; systemctl is-active liminal", check=False) == "disabled\ninactive"

    # It is ready when this ends.
    machine.sh("systemctl enable --now liminal")
    machine.sh("liminal health")
    assert machine.show("ActiveState", "StatusText", "NRestarts") == ["active", "ready", "0"]
    machine.sh("liminal channel create orders && liminal publish orders '{\"id\":7}' --key order-7")
    follow = "liminal -o raw subscribe orders --from earliest --count 1"
    assert machine.sh(follow) == '{"id":7}'

    # What the unit says of it holds.
    (pid,) = machine.show("MainPID")
    status = machine.sh(f"cat /proc/{pid}/status")
    uid = machine.sh("id -u liminal")
    for line in (f"Uid:\t{uid}\t{uid}", "NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"):
        assert line in status, status
    limits = machine.sh(f"cat /proc/{pid}/limits")
    assert any(line.split()[:5] == ["Max", "core", "file", "size", "0"] for line in limits.splitlines()), limits
    # Or as many as systemd itself may have in a container.
    most = machine.sh("ulimit -Hn")
    files = "65536" if most == "unlimited" else str(min(65536, int(most)))
    assert any(line.split()[:5] == ["Max", "open", "files", files, files] for line in limits.splitlines()), limits
    assert machine.sh(f"stat -c '%a %U' {DATA} {DATA}/data") == "700 liminal\n700 liminal"
    journal = machine.sh("journalctl -u liminal -o cat --no-pager")
    assert " WARN " not in journal and " ERROR " not in journal, journal

    # Its own end is in order, a violent one is repaired.
    machine.sh("systemctl restart liminal")
    assert machine.sh(follow) == '{"id":7}'
    machine.sh("systemctl kill --kill-whom=main -s KILL liminal")
    machine.until("systemctl show liminal -p NRestarts -p StatusText", lambda said: "=1" in said and "=ready" in said)
    assert machine.sh(follow) == '{"id":7}'

    # An upgrade touches neither the node that runs nor what the operator wrote.
    machine.sh(f"echo '# mine' >> {CONFIG}")
    (before,) = machine.show("MainPID")
    assert "one after another" in machine.sh("dpkg -i /liminal.deb")
    assert machine.show("MainPID", "ActiveState") == [before, "active"]
    assert machine.sh(f"tail -1 {CONFIG}") == "# mine"

    machine.sh("systemctl stop liminal")
    assert machine.show("Result", "ActiveState") == ["success", "inactive"]
    machine.sh("systemctl start liminal && dpkg -r liminal")
    assert machine.sh("ls /usr/bin/liminal /lib/systemd/system/liminal.service; pidof liminal", check=False).count("No such") == 2
    assert machine.sh(f"tail -1 {CONFIG}; ls {DATA}") == "# mine\ndata"
    assert "the messages in /var/lib/liminal stay" in machine.sh("dpkg -P liminal")
    assert "No such file" in machine.sh("ls /etc/liminal", check=False)
    assert machine.sh(f"ls {DATA}") == "data"

    # The messages are there for who installs it again; without them nothing is left.
    machine.sh("dpkg -i /liminal.deb && systemctl start liminal")
    assert machine.sh(follow) == '{"id":7}'
    machine.sh(f"systemctl stop liminal && rm -rf {DATA}/data && dpkg -P liminal")
    assert "No such file" in machine.sh(f"ls {DATA}", check=False)
    assert machine.sh("getent passwd liminal; getent group liminal", check=False) == ""
    assert machine.sh("dpkg -L liminal", check=False).startswith("dpkg-query: package 'liminal' is not installed")


def test_a_start_waits_for_the_cluster_and_says_so(machine: Machine) -> None:
    machine.sh("dpkg -i /liminal.deb")
    cluster = '[cluster]\nnode_name = "n1"\nlisten_address = "127.0.0.1:7301"\nexpect = 2\ncookie = "of-this-machine"'
    # Names, because the unit restricts how they are looked up; `localhost` would be two addresses each.
    seeds = 'seed_nodes = ["one.test:7301", "two.test:7302"]'
    machine.sh("echo '127.0.0.1 one.test two.test' >> /etc/hosts")
    machine.sh(f"printf '%s\\n' '{cluster}' '{seeds}' >> {CONFIG}")
    machine.sh("systemctl start --no-block liminal")
    machine.until("systemctl show -p StatusText liminal", lambda said: "not ready" in said)
    time.sleep(2)
    state, status = machine.show("ActiveState", "StatusText")
    assert state == "activating" and "the node is in no cluster yet" in status, status

    # The other one comes: the first becomes ready.
    other = {
        "listen_address": "127.0.0.1:7102",
        "health_listen_address": "127.0.0.1:7202",
        "persistence_path": "/tmp/n2",
        "cluster.node_name": "n2",
        "cluster.listen_address": "127.0.0.1:7302",
    }
    words = [word for key, value in other.items() for word in ("--set", f"{key}={value}")]
    run("docker", "exec", "--detach", machine.id, "/usr/bin/liminal", "serve", "--config", CONFIG, *words)
    machine.until("systemctl is-active liminal", lambda said: said == "active")
    assert machine.show("StatusText") == ["ready"]


def test_a_configuration_that_will_not_do_is_reported_and_tried_again(machine: Machine) -> None:
    machine.sh("dpkg -i /liminal.deb")
    machine.sh(f"echo 'listen = 1' >> {CONFIG}")
    assert "failed" in machine.sh("systemctl start liminal", check=False)
    assert "liminal.toml:" in machine.sh("journalctl -u liminal -o cat --no-pager")
    machine.sh(f"sed -i '$d' {CONFIG}")
    machine.until("systemctl is-active liminal", lambda said: said == "active")
    # Wrong usage is not tried again.
    machine.sh("systemctl stop liminal && mkdir -p /etc/default && echo LIMINAL_OUTPUT=wrong > /etc/default/liminal")
    machine.sh("systemctl start liminal", check=False)
    assert machine.show("ActiveState", "ExecMainStatus", "NRestarts") == ["failed", "2", "0"]
