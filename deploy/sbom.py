"""Writes the bill of materials of a binary, as CycloneDX 1.6: every package that is linked into it.

The packages are those that `cargo tree` resolves for the binary's package, its target and its normal dependencies: neither
those of tests and of the build, nor procedural macros, which run in the compiler. Licences are from the packages' manifests, and
checksums from Cargo.lock. The same sources, binary and SOURCE_DATE_EPOCH give the same bytes.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import uuid
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def cargo(*words: str) -> str:
    command = [os.environ.get("CARGO", "cargo"), *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` failed with {done.returncode}: no bill of materials is written")
    return done.stdout


def edges(tree: str) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """What each package depends on, by `cargo tree --prefix depth`: the depth, the name and the version of each line. A package
    that was shown before is not unfolded again, so the lines below its first appearance are all that it has."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    path: list[tuple[str, str]] = []
    for line in filter(None, tree.splitlines()):
        parsed = re.match(r"(\d+)(\S+) v(\S+)", line)
        if parsed is None:
            raise SystemExit(f"cargo tree says `{line}`, which this cannot read: look whether its format has changed")
        depth, package = int(parsed[1]), (parsed[2], parsed[3])
        del path[depth:]
        if path:
            found[path[-1]].add(package)
        found.setdefault(package, set())
        path.append(package)
    return found


def purl(name: str, version: str) -> str:
    return f"pkg:cargo/{quote(name, safe='')}@{quote(version, safe='')}"


def licences(expression: str | None) -> list[dict]:
    # Old manifests write a slash for `OR`.
    return [{"expression": re.sub(r"\s*/\s*", " OR ", expression)}] if expression else []


def component(package: dict, checksum: str | None) -> dict:
    name, version = package["name"], package["version"]
    found = {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "description": " ".join((package["description"] or "").split()),
        "licenses": licences(package["license"]),
    }
    if package["source"] == REGISTRY:
        found["purl"] = purl(name, version)
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    elif package["source"] is None:
        where = Path(package["manifest_path"]).parent.relative_to(ROOT).as_posix()
        found["properties"] = [{"name": "liminal:directory", "value": where}]
    if package["repository"]:
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return {key: value for key, value in found.items() if value}


def runtime(binary: bytes) -> list[dict]:
    """What is linked in and is no package: Rust's library and the C library, as far as the binary names their versions."""
    known = [
        ("std", rb"rustc version ([0-9][0-9a-z.-]*)", "MIT OR Apache-2.0", "Rust's standard library"),
        ("glibc", rb"GNU C Library \([^)]*\) stable release version ([0-9.]+[0-9])", "LGPL-2.1-or-later", "the GNU C library"),
    ]
    found = []
    for name, pattern, licence, description in known:
        if named := re.search(pattern, binary):
            version = named[1].decode()
            found.append({
                "type": "library",
                "bom-ref": f"runtime:{name}@{version}",
                "name": name,
                "version": version,
                "description": description,
                "licenses": licences(licence),
            })
    return found


def bill(binary: Path, target: str) -> dict:
    metadata = json.loads(cargo("metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    options = ["--package=liminal", f"--target={target}", "--edges=normal,no-proc-macro", "--prefix=depth", "--format={p}"]
    depends = edges(cargo("tree", "--locked", *options))
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock}

    root = next(key for key in depends if key[0] == "liminal")
    missing = [key for key in depends if key not in packages]
    if missing:
        raise SystemExit(f"cargo metadata does not know {missing}: is Cargo.lock of these sources?")
    content = binary.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    version = packages[root]["version"]
    top = {
        "type": "application",
        "bom-ref": f"liminal@{version}",
        "name": "liminal",
        "version": version,
        "description": packages[root]["description"],
        "licenses": licences(packages[root]["license"]),
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "purl": f"pkg:generic/liminal@{version}",
    }
    reference = {key: purl(*key) for key in depends} | {root: top["bom-ref"]}
    linked = runtime(content)
    parts = [component(packages[key], checksums.get(key)) for key in sorted(depends) if key != root]
    relations = [
        {"ref": reference[key], "dependsOn": sorted(reference[other] for other in others)}
        for key, others in sorted(depends.items())
    ]
    next(one for one in relations if one["ref"] == top["bom-ref"])["dependsOn"] += [one["bom-ref"] for one in linked]
    when = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), timezone.utc)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, f'liminal:{version}:{target}:{digest}')}",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": top,
            "properties": [{"name": "liminal:target", "value": target}],
        },
        "components": parts + linked,
        "dependencies": relations + [{"ref": one["bom-ref"]} for one in linked],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--target", required=True, help="as Rust calls it, for example x86_64-unknown-linux-gnu")
    arguments = parser.parse_args()
    json.dump(bill(arguments.binary, arguments.target), sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
