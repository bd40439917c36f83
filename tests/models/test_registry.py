"""A method is its own file or folder and one line of the registry: no other file names it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tal_core.models.registry import METHODS, get_method
from tal_core.types import InputError
from tests.paths import ROOT

# The registry imports the methods; presets are theirs; importing knows other programs' files.
MAY_NAME_METHODS = ("tal_core/models/registry.py", "tal_core/models/presets", "tal_core/importing/")
# Names in what people type, which are older than the registry.
ALLOWED = {
    "tal_core/models/ssn/ssn.py": {"bsn", "bmn"},  # choices of its setting ``proposals``
    "tal_core/commands/demo.py": {"baseline"},  # the demo's own run
    "tal_core/commands/train.py": {"baseline"},  # what ``--model`` is without one
    "tal_core/commands/import_checkpoint.py": {
        "actionformer",
        "tridet",
        "temporalmaxer",
        "bmn",
    },  # ``--from``
}


def own_files(name: str) -> str:
    """The file of a method, or the folder that it shares with its family."""
    path = Path(*METHODS[name].build.__module__.split("."))
    return f"{path}.py" if path.parent.name == "models" else f"{path.parent}/"


def strings(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


@pytest.mark.lint
def test_no_file_names_a_method_but_its_own():
    files = [file for folder in ("tal_core", "pages") for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 100
    named = []
    for file in files:
        where = file.relative_to(ROOT).as_posix()
        if where.startswith(MAY_NAME_METHODS):
            continue
        for name in strings(file) & set(METHODS) - ALLOWED.get(where, set()):
            if not where.startswith(own_files(name)):
                named.append(f"{where}: {name}")
    assert not named


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_others_ask_of_it(name):
    method = METHODS[name]
    assert method.name == name and method.title and method.summary.endswith(".")
    model = method.build(method.config(), 8, 2)
    for call in ("outputs", "targets", "loss", "candidates"):
        assert callable(getattr(model, call)), call
    assert method.online == (hasattr(model, "zero_state") and hasattr(model, "advance"))
    for form in ("torchscript", "onnx", "torch-export"):
        reason = method.not_exportable(form)
        assert reason is None or reason.strip() == reason != ""


def test_an_unknown_method_is_named_with_those_there_are():
    with pytest.raises(InputError, match=r"there is no method 'nope'.*baseline"):
        get_method("nope")
