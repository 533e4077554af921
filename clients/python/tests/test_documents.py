"""The programs in the cookbook do what it says: a block that begins with ```python run, and what it prints in the block of text
below it. Other blocks of Python are parts of programs, and are at least Python."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cluster

COOKBOOK = Path(__file__).parents[3] / "docs" / "cookbook"
PROGRAM = re.compile(r"^```python run\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)

PART = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs() -> list[tuple[str, str, str]]:
    found = []
    for page in sorted(COOKBOOK.glob("*.md")):
        text = page.read_text()
        matches = PROGRAM.findall(text)
        # One that does not state what it prints would be run by nobody.
        assert len(matches) == text.count("```python run"), f"{page}: a program has no block of text below it"
        found += [(f"{page.stem}-{number}", program, stated) for number, (program, stated) in enumerate(matches, 1)]
    assert found
    return found


@pytest.mark.parametrize(("program", "stated"), [one[1:] for one in programs()], ids=[one[0] for one in programs()])
async def test_a_program_of_the_cookbook_prints_what_it_states(cluster: Cluster, program: str, stated: str) -> None:
    environment = os.environ | {"LIMINAL_SERVER": ",".join(cluster.servers)}
    line = [sys.executable, "-c", program]
    run = await asyncio.to_thread(
        subprocess.run, line, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (0, stated), run.stderr


def test_the_parts_of_programs_are_python() -> None:
    parts = [(page.name, part) for page in sorted(COOKBOOK.glob("*.md")) for part in PART.findall(page.read_text())]
    assert parts
    for page, part in parts:
        compile(part, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
