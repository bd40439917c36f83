"""The worked examples of docs/extending.md: every file, edit, program and command in it is carried out."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.lint
_TEXT = (ROOT / "docs" / "extending.md").read_text()
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


class Block(NamedTuple):
    """A fenced block: its language, the file it is or changes, its text."""

    language: str
    file: str
    text: str


def sections() -> dict[str, list[Block]]:
    """The blocks under each heading."""
    parts = re.split(r"^## (.+)$", _TEXT, flags=re.M)[1:]
    return {
        title: [Block(*found) for found in _BLOCK.findall(body)]
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The program in a folder where it can be changed."""
    folder = tmp_path_factory.mktemp("extended") / "studio"
    folder.mkdir()
    for name in ("tal_core", "pages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", folder)
    for name in ("assets", ".streamlit"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def change(path: Path, text: str) -> None:
    """Apply lines that begin with a blank, ``-`` or ``+``, as a diff shows them; ``...`` separates places."""
    content = path.read_text()
    for hunk in text.split("...\n"):
        lines = hunk.splitlines()
        before = "\n".join(line[1:] for line in lines if line[:1] != "+")
        after = "\n".join(line[1:] for line in lines if line[:1] != "-")
        assert content.count(before) == 1, f"{path.name} doesn't hold once:\n{before}"
        content = content.replace(before, after)
    path.write_text(content)


def run(folder: Path, command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(folder), "TAL_HOME": str(folder.parent / "workspace")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_way_to_extend_has_an_example():
    assert [title.split()[-1] for title, blocks in sections().items() if blocks] == [
        "method", "extractor", "format", "metric", "command", "page"
    ]  # fmt: skip


@pytest.mark.parametrize("title", sections())
def test_the_example_works(title, copy):
    for block in sections()[title]:
        path = copy / block.file
        if block.language == "diff":
            change(path, block.text)
        elif block.file:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            run(copy, [sys.executable, "-c", block.text])
        elif block.language == "bash":
            for line in block.text.splitlines():
                run(copy, [sys.executable, *shlex.split(line)[1:]])
