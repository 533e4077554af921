"""Writes what the client takes from the rest of the repository, so that the two cannot differ:

- src/liminal/_proto from proto/liminal/v1, with protoc (of the version of grpcio-tools that pyproject.toml names);
- src/liminal/errors.py from the table of error codes in docs/ERRORS.md.

Run it after a change of either. `--check` writes nothing, and fails where something would change.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
ROOT = PROJECT.parent.parent
PACKAGE = PROJECT / "src" / "liminal"
PROTOS = ["admin", "broker", "claims", "consumers", "security"]

INIT = '"""Generated from proto/liminal/v1 by scripts/generate.py. Not part of the interface of this package."""\n'

ERRORS_HEAD = '''"""One class for each error code, so that a program can catch what it can handle.

Generated from docs/ERRORS.md by scripts/generate.py: change nothing here.
"""

from __future__ import annotations

from ._error import ErrorDetail as ErrorDetail
from ._error import LiminalError as LiminalError
'''


def protos(into: Path) -> None:
    """The modules of messages and services, with imports within this package: `liminal.v1` would be somebody else's."""
    from importlib.resources import files

    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as scratch:
        sources = [str(ROOT / "proto" / "liminal" / "v1" / f"{name}.proto") for name in PROTOS]
        includes = [f"-I{ROOT / 'proto'}", f"-I{files('grpc_tools') / '_proto'}"]
        outputs = [f"--{kind}_out={scratch}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main(["protoc", *includes, *outputs, *sources]) != 0:
            sys.exit("protoc failed: see its message above")
        (into / "__init__.py").write_text(INIT)
        for path in sorted(Path(scratch, "liminal", "v1").iterdir()):
            text = re.sub(r"^from liminal\.v1 import", "from . import", path.read_text(), flags=re.M)
            (into / path.name).write_text(text)


def rows() -> list[dict[str, str]]:
    """The rows of all tables of docs/ERRORS.md, by column."""
    found, columns = [], []
    for line in (ROOT / "docs" / "ERRORS.md").read_text().splitlines():
        if not line.startswith("| "):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Code":
            columns = cells
        elif len(cells) == len(columns) and cells[0].startswith("`"):
            found.append(dict(zip(columns, cells)))
    return found


def errors() -> str:
    parts = [ERRORS_HEAD]
    for row in rows():
        code = row["Code"].strip("`")
        name = "".join(word.capitalize() for word in code.split("_"))
        parts.append(
            f"\n\nclass {name}(\n"
            f"    LiminalError,\n"
            f"    code={code!r},\n"
            f"    outcome={row['Outcome']!r},\n"
            f"    retry={row['Retry'] == 'yes'},\n"
            f"    next_step={row['Next step']!r},\n"
            f"):\n"
            f'    """{row["Meaning"]}"""\n'
        )
    return "".join(parts)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        (made / "_proto").mkdir()
        protos(made / "_proto")
        (made / "errors.py").write_text(errors())
        changed = []
        for path in sorted(made.rglob("*.py*")):
            target = PACKAGE / path.relative_to(made)
            if not target.exists() or target.read_text() != path.read_text():
                changed.append(str(target.relative_to(PROJECT)))
                if "--check" not in sys.argv:
                    target.parent.mkdir(exist_ok=True)
                    target.write_text(path.read_text())
    if changed and "--check" in sys.argv:
        sys.exit("not up to date, run scripts/generate.py: " + ", ".join(changed))


if __name__ == "__main__":
    main()
