"""What deploy/package.sh makes: it is complete, says what it is, and is the same each time."""

import json
import re
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import DEPLOY, ROOT, run, the
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

sys.path.insert(0, str(DEPLOY))
import image  # noqa: E402
import sbom  # noqa: E402


def test_the_sums_are_those_of_all_files(packages: Path) -> None:
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=packages)
    listed = {line.split()[1] for line in (packages / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in packages.iterdir()} - {"SHA256SUMS"}


def test_the_same_sources_give_the_same_bytes(packages: Path, binary: Path, tmp_path: Path) -> None:
    run(DEPLOY / "package.sh", "--quick", "--binary", binary, "--out", tmp_path, timeout=600, umask=0o077)
    assert (tmp_path / "SHA256SUMS").read_text() == (packages / "SHA256SUMS").read_text()


def test_a_binary_of_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "liminal"
    other.write_text("#!/bin/sh\necho liminal 0.0.0\n")
    other.chmod(0o755)
    done = run(DEPLOY / "package.sh", "--binary", other, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1 and "`liminal 0.0.0`" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_the_tarball_has_everything(packages: Path, version: str, tmp_path: Path) -> None:
    archive = the(packages, "*-linux.tar.gz")
    with tarfile.open(archive) as tar:
        assert all((entry.uid, entry.gid, entry.uname) == (0, 0, "") for entry in tar)
        tar.extractall(tmp_path, filter="data")
    tree = tmp_path / archive.name.removesuffix(".tar.gz")
    assert run(tree / "bin/liminal", "--version").stdout == f"liminal {version}\n"
    for file in ("LICENSE", "liminal.toml", "liminal.cdx.json", "systemd/liminal.service"):
        assert (tree / file).stat().st_size > 0
    assert "publish" in (tree / "share/man/man1/liminal.1").read_text()
    assert (tree / "share/man/man1/liminal-channel-create.1").exists()
    for shell, file in {
        "bash": "share/bash-completion/completions/liminal",
        "zsh": "share/zsh/site-functions/_liminal",
        "fish": "share/fish/vendor_completions.d/liminal.fish",
    }.items():
        assert "subscribe" in (tree / file).read_text()
        if shutil.which(shell):
            run(shell, "-n", tree / file)


def test_the_package_for_debian_says_what_it_is(packages: Path, version: str) -> None:
    package = the(packages, "*.deb")
    fields = json.dumps(run("dpkg-deb", "--field", package).stdout)
    assert f"Version: {version.replace('-', '~')}" in fields and "Depends: adduser" in fields
    listed = run("dpkg-deb", "--contents", package).stdout
    owners = {line.split()[1] for line in listed.splitlines()}
    assert owners == {"root/root"}
    for path in (
        "usr/bin/liminal",
        "etc/liminal/liminal.toml",
        "lib/systemd/system/liminal.service",
        "usr/share/man/man1/liminal.1.gz",
        "usr/share/bash-completion/completions/liminal",
        "usr/share/zsh/vendor-completions/_liminal",
        "usr/share/fish/vendor_completions.d/liminal.fish",
        "usr/share/doc/liminal/copyright",
        "usr/share/doc/liminal/liminal.cdx.json",
    ):
        assert re.search(rf" \./{re.escape(path)}$", listed, re.MULTILINE), f"{path} is not in it"
    assert run("dpkg-deb", "--info", package, "conffiles").stdout == "/etc/liminal/liminal.toml\n"
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", DEPLOY / "debian" / script)


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed")
def test_lintian_finds_no_error(packages: Path) -> None:
    # A binary that links its C library is what is wanted here.
    done = run("lintian", "--fail-on=error", "--suppress-tags=statically-linked-binary,embedded-library", the(packages, "*.deb"), check=False)
    assert done.returncode == 0, done.stdout


def test_the_configuration_of_the_package_can_be_used(binary: Path) -> None:
    done = run(binary, "config", "check", DEPLOY / "debian/liminal.toml", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_cluster_can_be_used_when_it_is_commented_in(binary: Path, tmp_path: Path) -> None:
    lines = (DEPLOY / "debian/liminal.toml").read_text().splitlines()
    begins = next(number for number, line in enumerate(lines) if line.startswith("# Three nodes"))
    setting = re.compile(r"# (\[\w+\]|\w+ = .*)$")
    head = [line for line in lines[:begins] if "listen_address" not in line]
    tail = [found[1] for line in lines[begins:] if (found := setting.match(line))]
    text = "\n".join(head + tail).replace("/var/lib/liminal", str(tmp_path)).replace("blake3:...", "blake3:" + "0" * 64)
    (tmp_path / "liminal.toml").write_text(text)
    done = run(binary, "config", "check", tmp_path / "liminal.toml", check=False)
    assert "[cluster]" in text and done.returncode == 0, text + done.stdout + done.stderr


def test_the_bill_of_materials_is_valid_and_complete(packages: Path, version: str) -> None:
    text = the(packages, "*.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    top = bill["metadata"]["component"]
    assert (top["name"], top["version"]) == ("liminal", version)
    names = {component["name"] for component in bill["components"]}
    assert {"tokio", "openraft", "haematite", "ring", "liminal-wire"} <= names
    # Tests, benchmarks, other systems, and what only runs in the compiler.
    assert names.isdisjoint({"proptest", "turmoil", "insta", "windows-sys", "serde_derive", "syn", "benches", "protox"})
    for component in bill["components"]:
        assert component.get("licenses"), f"{component['name']} has no licence"
        if component.get("purl", "").startswith("pkg:cargo/"):
            assert re.fullmatch("[0-9a-f]{64}", component["hashes"][0]["content"]), component
    references = [component["bom-ref"] for component in bill["components"]] + [top["bom-ref"]]
    assert len(references) == len(set(references))
    assert sorted(one["ref"] for one in bill["dependencies"]) == sorted(references)
    reached, open_ends = set(), {top["bom-ref"]}
    depends = {one["ref"]: set(one.get("dependsOn", [])) for one in bill["dependencies"]}
    while open_ends:
        reached |= open_ends
        open_ends = set().union(*(depends[one] for one in open_ends)) - reached
    assert reached == set(references), "all of it is there because something needs it"


def test_the_bill_is_of_the_binary_that_is_packed(packages: Path, tmp_path: Path) -> None:
    bill = json.loads(the(packages, "*.cdx.json").read_text())
    archive = the(packages, "*-linux.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    packed = tmp_path / archive.name.removesuffix(".tar.gz") / "bin/liminal"
    said = bill["metadata"]["component"]["hashes"][0]["content"]
    assert run("sha256sum", packed).stdout.split()[0] == said


def test_a_package_is_unfolded_where_it_is_first_seen() -> None:
    tree = "0a v1.0.0 (/x)\n1b v2.0.0\n2c v3.0.0\n1c v3.0.0 (*)\n1d v4.0.0+e.5\n"
    a, b, c, d = ("a", "1.0.0"), ("b", "2.0.0"), ("c", "3.0.0"), ("d", "4.0.0+e.5")
    assert sbom.edges(tree) == {a: {b, c, d}, b: {c}, c: set(), d: set()}
    assert sbom.purl(*d) == "pkg:cargo/d@4.0.0%2Be.5"
    assert sbom.licences("MIT/Apache-2.0") == [{"expression": "MIT OR Apache-2.0"}]


def test_a_bill_of_a_few_packages_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def package(name: str, version: str, source: str | None, licence: str) -> dict:
        manifest = str(ROOT / "crates" / name / "Cargo.toml")
        about = {"description": "a\n b", "repository": f"https://example.com/{name}", "manifest_path": manifest}
        return {"name": name, "version": version, "source": source, "license": licence} | about

    packages = [
        package("liminal", "0.1.0", None, "Apache-2.0"),
        package("liminal-wire", "0.1.0", None, "Apache-2.0"),
        package("tokio", "1.54.1", sbom.REGISTRY, "MIT/Apache-2.0"),
        package("not-linked", "1.0.0", sbom.REGISTRY, "MIT"),
    ]
    tree = f"0liminal v0.1.0 ({ROOT})\n1liminal-wire v0.1.0 ({ROOT}/crates/liminal-wire)\n2tokio v1.54.1\n1tokio v1.54.1 (*)\n"
    said = {"metadata": json.dumps({"packages": packages}), "tree": tree}
    monkeypatch.setattr(sbom, "cargo", lambda command, *_: said[command])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    program = tmp_path / "program"
    program.write_bytes(b"\0rustc version 1.95.0 (x)\0GNU C Library (Debian) stable release version 2.36.\n")
    bill = sbom.bill(program, "x86_64-unknown-linux-gnu")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    parts = {component["name"]: component for component in bill["components"]}
    assert set(parts) == {"liminal-wire", "tokio", "std", "glibc"} and parts["glibc"]["version"] == "2.36"
    (relation,) = [one for one in bill["dependencies"] if one["ref"] == "liminal@0.1.0"]
    assert relation["dependsOn"][:2] == ["pkg:cargo/liminal-wire@0.1.0", "pkg:cargo/tokio@1.54.1"]
    # The checker refuses what is none.
    del bill["components"][0]["name"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None


def test_an_image_has_what_its_recipe_says(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"a program")
    program.chmod(0o755)
    files = image.build(image.RECIPE.read_text(), program, "1.2.3", "amd64", 1_700_000_000)
    (manifest,) = json.loads(files["manifest.json"])
    config = json.loads(files[manifest["Config"]])
    assert config["created"] == "2023-11-14T22:13:20Z" and config["config"]["Entrypoint"] == ["/liminal"]
    (tmp_path / "layer.tar").write_bytes(files[manifest["Layers"][0]])
    with tarfile.open(tmp_path / "layer.tar") as tar:
        owners = {entry.name: (entry.uid, entry.mode) for entry in tar}
    assert owners["data"] == (10001, 0o755) and owners["liminal"] == (0, 0o755)
    assert owners["etc/liminal/node.toml"] == (0, 0o644)
    with pytest.raises(SystemExit, match="RUN true"):
        image.build("FROM scratch\nRUN true\n", program, "1.2.3", "amd64", 0)
