"""What the tests share: the paths, the binary to pack, and containers that end with the test."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def run(*words: str | Path, check: bool = True, timeout: float = 120, **options) -> subprocess.CompletedProcess[str]:
    """A command with what it says; where it fails, the failure says what it said."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=timeout, **options)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@pytest.fixture(scope="session")
def version() -> str:
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


@pytest.fixture(scope="session")
def binary() -> Path:
    named = os.environ.get("LIMINAL_BINARY")
    if not named:
        pytest.fail("LIMINAL_BINARY does not name the binary to pack: run deploy/test.sh --binary FILE")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def packages(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with everything that deploy/package.sh makes of the binary."""
    out = tmp_path_factory.mktemp("packages")
    run(DEPLOY / "package.sh", "--quick", "--binary", binary, "--out", out, timeout=600)
    return out


def the(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    assert len(found) == 1, f"{pattern} is there {len(found)} times in {sorted(path.name for path in directory.iterdir())}"
    return found[0]
