"""Writes the container image of cluster/Dockerfile.prebuilt, with a given binary, as an archive for `docker load`.

Builders put the time of the build into an image, and need a daemon. An image without a base is a tar file and a few lines of
JSON, so this writes it: the same binary and sources give the same bytes, on any machine. deploy/test.sh compares it with what
the builder makes of the same file.
"""

import argparse
import hashlib
import io
import json
import os
import shlex
import sys
import tarfile
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "cluster/Dockerfile.prebuilt"
# Where the recipe takes the binary from.
BINARY = "cluster/bin/liminal"


def instructions(text: str) -> list[tuple[str, str]]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in lines)]


class Layer:
    """One layer, whose entries are sorted and have neither the times nor the owners of this machine."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}

    def add(self, name: str, owner: tuple[int, int], mode: int, content: bytes | None) -> None:
        entry = tarfile.TarInfo(name.strip("/"))
        entry.mtime, entry.mode = self.seconds, mode
        entry.uid, entry.gid = owner
        entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
        entry.size = len(content or b"")
        self.entries.setdefault(entry.name, (entry, content or b""))

    def copy(self, source: Path, to: str, owner: tuple[int, int]) -> None:
        """As COPY does it: of a directory what is in it."""
        if source.is_file():
            self.add(to, owner, 0o755 if os.access(source, os.X_OK) else 0o644, source.read_bytes())
            return
        self.add(to, owner, 0o755, None)
        for path in sorted(source.iterdir()):
            self.copy(path, f"{to}/{path.name}", owner)

    def tar(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for _, (entry, content) in sorted(self.entries.items()):
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


def build(recipe: str, binary: Path, version: str, architecture: str, seconds: int) -> dict[str, bytes]:
    """The files of the archive."""
    layer = Layer(seconds)
    # A builder sets the path of an image that has none.
    config: dict = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
    for word, rest in instructions(recipe):
        match word:
            case "FROM" if rest == "scratch":
                pass
            case "COPY":
                words = shlex.split(rest)
                owner = (0, 0)
                if words[0].startswith("--chown="):
                    user, _, group = words.pop(0).removeprefix("--chown=").partition(":")
                    owner = (int(user), int(group))
                source, to = words
                layer.copy(binary if source == BINARY else ROOT / source, to, owner)
            case "USER":
                config["User"] = rest
            case "VOLUME":
                config["Volumes"] = {rest: {}}
            case "EXPOSE":
                config["ExposedPorts"] = {f"{port}/tcp": {} for port in rest.split()}
            case "STOPSIGNAL":
                config["StopSignal"] = rest
            case "ENTRYPOINT":
                config["Entrypoint"] = json.loads(rest)
            case "CMD":
                config["Cmd"] = json.loads(rest)
            case _:
                raise SystemExit(f"{RECIPE}: `{word} {rest}` is not known here: add it to {__file__}")
    config["Labels"] = {
        "org.opencontainers.image.title": "liminal",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "Apache-2.0",
    }
    tar = layer.tar()
    created = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha256(tar).hexdigest()
    image = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": created, "created_by": "deploy/image.py"}],
    }
    described = json.dumps(image, sort_keys=True).encode()
    name = f"{hashlib.sha256(described).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [f"liminal:{version}"], "Layers": [f"{digest}/layer.tar"]}]
    return {f"{digest}/layer.tar": tar, name: described, "manifest.json": json.dumps(manifest).encode()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--architecture", required=True, help="as Docker calls it: amd64, arm64")
    arguments = parser.parse_args()
    seconds = int(os.environ["SOURCE_DATE_EPOCH"])
    archive = Layer(seconds)
    files = build(RECIPE.read_text(), arguments.binary, arguments.version, arguments.architecture, seconds)
    for name, content in files.items():
        archive.add(name, (0, 0), 0o644, content)
    sys.stdout.buffer.write(archive.tar())


if __name__ == "__main__":
    main()
