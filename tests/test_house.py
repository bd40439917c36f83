"""The rules of the house that a machine can check: layers, style, thin pages."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.paths import ROOT

CODE = ["tal_core", "app.py", "pages"]

# From the ground floor up: a room may import its own floor's package and what lies below it.
FLOORS = [
    "types",
    "workspace",
    "data",
    "video",
    "models",
    "evaluation",
    "inference",
    "training",
    "streaming",
    "plots",
]


def imported_modules(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def engine_files() -> list[Path]:
    return sorted((ROOT / "tal_core").rglob("*.py"))


def test_engine_never_imports_streamlit():
    offenders = [
        p.name for p in engine_files() if any(m.split(".")[0] == "streamlit" for m in imported_modules(p))
    ]
    assert engine_files() and not offenders


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_downward(floor):
    room = ROOT / "tal_core" / floor
    files = room.rglob("*.py") if room.is_dir() else [room.with_suffix(".py")]
    above = FLOORS[FLOORS.index(floor) + 1 :]
    for path in files:
        if not path.exists():
            continue
        for module in imported_modules(path):
            parts = module.split(".")
            if parts[0] == "tal_core" and len(parts) > 1 and parts[1] in above:
                pytest.fail(f"{path.relative_to(ROOT)} imports {module}")


def test_pages_hold_no_torch_and_no_formats():
    for path in (ROOT / "pages").glob("*.py"):
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
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_pylint_score():
    result = subprocess.run(
        [sys.executable, "-m", "pylint", "--fail-under=9.5", "--fail-on=E,F", *CODE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


def test_test_files_have_names_of_their_own():
    # pytest imports them by name alone and stops at the second of the same.
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
