"""The rules of the house that a machine can check: layers, style, thin pages."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.lint


def imported_modules(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def page_files() -> list[Path]:
    return sorted((ROOT / "pages").rglob("*.py"))


def engine_files() -> list[Path]:
    return sorted((ROOT / "tal_core").rglob("*.py"))


def check(*command: str) -> None:
    """Run a tool of the environment in the project's root; it has to be content."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_imports_run_downward():
    # The layers, and what else may not import what, stand in pyproject.toml.
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_room_has_its_layer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = re.findall(r"tal_core\.(\w+)", " ".join(contracts[0]["layers"]))
    rooms = {path.stem for path in (ROOT / "tal_core").iterdir() if path.suffix in ("", ".py")}
    assert rooms - {"__init__", "__pycache__"} == set(layers)
    pages = {path.parent.name for path in (ROOT / "pages").glob("*/page.py")}
    assert {f"pages.{name}" for name in pages} == set(contracts[2]["modules"])


def test_pages_hold_no_torch_and_no_formats():
    assert len(page_files()) > 30
    for path in page_files():
        roots = {m.split(".")[0] for m in imported_modules(path)}
        assert not roots & {"torch", "h5py", "cv2", "av", "safetensors"}, path.name


def test_nothing_executes_pickles():
    for path in engine_files():
        text = path.read_text()
        assert "allow_pickle=True" not in text, path
        assert "weights_only=False" not in text, path
        assert "import pickle" not in text, path


@pytest.mark.parametrize("arguments", [["check", "."], ["format", "--check", "."]], ids=["lint", "format"])
def test_ruff(arguments):
    check("ruff", *arguments)


def test_spelling():
    check("codespell_lib", ".")


def test_types():
    check("mypy")
