"""The unit: systemd can read it, and it is as closed as it says."""

import re
import shutil

import pytest
from conftest import DEPLOY, ROOT, run

UNIT = DEPLOY / "systemd/liminal.service"
# Ten times what `systemd-analyze security` calls the exposure: 0 is nothing, 100 everything. What is left is the network.
MOST_EXPOSED = 15

analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def value(key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return found


def test_it_starts_what_the_package_installs() -> None:
    command = value("ExecStart").split()
    assert command == ["/usr/bin/liminal", "serve", "--config", "/etc/liminal/liminal.toml"]
    config = (DEPLOY / "debian/liminal.toml").read_text()
    assert f'persistence_path = "/var/lib/{value("StateDirectory")}/data"' in config


def test_it_waits_for_the_drain() -> None:
    reference = (ROOT / "docs/CONFIGURATION.md").read_text()
    (drain,) = re.findall(r"^\| `drain_timeout_ms` \|[^|]*\| `(\d+)` \|", reference, re.MULTILINE)
    assert int(value("TimeoutStopSec").removesuffix("s")) * 1000 > 2 * int(drain)


@analyze
def test_systemd_can_read_it(tmp_path) -> None:
    # The binary and the pages are not installed here: others that are stand in for them.
    copy = tmp_path / "liminal.service"
    text = UNIT.read_text().replace("/usr/bin/liminal", "/bin/true")
    copy.write_text("\n".join(line for line in text.splitlines() if not line.startswith("Documentation=")))
    done = run("systemd-analyze", "verify", copy)
    about = [line for line in done.stderr.splitlines() if "liminal" in line or "Unknown" in line]
    assert about == []


@analyze
def test_a_mistake_in_it_would_be_seen(tmp_path) -> None:
    copy = tmp_path / "liminal.service"
    copy.write_text(UNIT.read_text().replace("NoNewPrivileges=yes", "NoNewPrivilege=yes"))
    assert "NoNewPrivilege" in run("systemd-analyze", "verify", copy, check=False).stderr


@analyze
def test_it_is_closed() -> None:
    run("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", UNIT)
