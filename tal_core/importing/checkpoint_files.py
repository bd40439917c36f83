"""Reads what other programs write: PyTorch checkpoints, YAML, JSON and Python configs. Nothing is executed.

Checkpoints are read by ``torch.load(weights_only=True)``, YAML by its safe loader, and Python configs as
syntax: only literals, ``dict(...)`` and earlier variables are understood.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tal_core.types import InputError

BASE_DEPTH = 8  # configs that build on one another


def read_state(path: Path) -> tuple[dict[str, torch.Tensor], int]:
    """Weights by name, without the ``module.`` of parallel training, and finished epochs (0 if not stated).

    Averaged weights (``state_dict_ema``) go before the plain ones (``state_dict``), as in the authors' own
    evaluation; a file may also be nothing but a state dict.

    Raises:
        InputError: if the file is missing, truncated, no checkpoint, or holds more than plain data.
    """
    content = _load(path)
    epoch = content.get("epoch") if isinstance(content, dict) else None
    if isinstance(content, dict):
        content = content.get("state_dict_ema") or content.get("state_dict") or content
    if not isinstance(content, Mapping) or not any(torch.is_tensor(value) for value in content.values()):
        hint = "Give the file that the training wrote, such as epoch_034.pth.tar."
        raise InputError("holds no state_dict", where=path, hint=hint)
    state = {
        str(name).removeprefix("module."): value for name, value in content.items() if torch.is_tensor(value)
    }
    return state, epoch if isinstance(epoch, int) else 0


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError("there is no such file", where=path, hint="Give a checkpoint.") from None
    except UnpicklingError as error:
        if _start(path) not in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise _damaged(path, error) from None  # no zip archive and no pickle
        what = "holds Python objects besides weights, which could run code, so it is not read"
        hint = "If you trust it, save its state_dict alone with torch.save, and import that file."
        raise InputError(what, where=path, hint=hint) from None
    except IsADirectoryError:
        raise InputError("is a folder", where=path, hint="Give the checkpoint in it.") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(2)


def _damaged(path: Path, error: Exception) -> InputError:
    readable = isinstance(error, OSError | RuntimeError) and str(error)
    reason = str(error).splitlines()[0].split(". ")[0] if readable else type(error).__name__
    what = f"can't be read as a PyTorch checkpoint ({reason})"
    return InputError(what, where=path, hint="It is truncated or of another kind; download or copy it again.")


def read_config(path: Path) -> dict[str, Any]:
    """A config file's content: ``.yaml``/``.yml``, ``.json`` or ``.py`` (with its ``_base_`` files).

    Raises:
        InputError: if it is missing, faulty, of another kind or more than data.
    """
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".json": _read_json, ".py": _read_python}
    kind = path.suffix.lower()
    if kind not in readers:
        raise InputError(f"is no config that can be read ({kind or 'no ending'})", where=path, hint=_KINDS)
    content = readers[kind](path)
    if not isinstance(content, dict):
        raise InputError("holds no settings", where=path, hint=_KINDS)
    return content


_KINDS = "Give the method's .yaml (ActionFormer, TriDet, TemporalMaxer), .json (BMN) or .py (OpenTAD)."


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"can't be read ({reason})", where=path, hint=_KINDS) from None


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        what = f"{line}{getattr(error, 'problem', None) or 'is not valid YAML'}"
        raise InputError(what, where=path, hint="Correct it, or leave --config out.") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        hint = "Correct it, or leave --config out."
        raise InputError(f"is not valid JSON ({error})", where=path, hint=hint) from None


def _read_python(path: Path, depth: int = 0) -> dict[str, Any]:
    """Variables of a Python config, on top of those of its ``_base_`` files."""
    if depth > BASE_DEPTH:
        raise InputError("builds on itself", where=path, hint="Correct its _base_.")
    text = _text(path)
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        raise InputError(f"{line}is not valid Python", where=path, hint="Give OpenTAD's config.") from None
    own: dict[str, Any] = {}
    for statement in body:
        targets = [t for t in getattr(statement, "targets", ()) if isinstance(t, ast.Name)]
        if isinstance(statement, ast.Assign) and len(targets) == len(statement.targets):
            value = _value(statement.value, own, path)
            own |= {target.id: value for target in targets}
        elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
            what = f"line {statement.lineno}: only plain settings are read, no other statements"
            raise InputError(what, where=path, hint="Write name = value.")
    bases = own.pop("_base_", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        if Path(base).is_absolute() or Path(base).suffix != ".py":
            what = f"_base_ names {base!r}"
            raise InputError(what, where=path, hint="Name .py files by relative paths.")
        merged = _merge(merged, _read_python(path.parent / base, depth + 1))
    return _merge(merged, own)


def _value(node: ast.expr, known: Mapping[str, Any], path: Path) -> Any:
    """What a literal, ``dict(...)`` or sum or product of such says."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, known, path) for part in parts]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            names = [key.value for key in keys if isinstance(key, ast.Constant)]
            return dict(zip(names, (_value(part, known, path) for part in values), strict=True))
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words) if all(word.arg for word in words):
            return {word.arg: _value(word.value, known, path) for word in words}
    computed = _computed(node, known, path)
    if computed is None:
        what = f"line {node.lineno}: {ast.unparse(node)[:40]!r} is no plain setting"
        raise InputError(what, where=path, hint="Write numbers, texts, lists and dict(...) only.")
    return computed


def _computed(node: ast.expr, known: Mapping[str, Any], path: Path) -> Any:
    """``-a``, ``a + b``, ``a * b`` and ``[a] * n``; None for anything else."""
    number = int | float
    match node:
        case ast.UnaryOp(op=ast.USub()):
            value = _value(node.operand, known, path)
            return -value if isinstance(value, number) else None
        case ast.BinOp(op=ast.Add() | ast.Mult()):
            left, right = _value(node.left, known, path), _value(node.right, known, path)
            adding, numbers = (
                isinstance(node.op, ast.Add),
                isinstance(left, number) and isinstance(right, number),
            )
            if adding and (numbers or (isinstance(left, str) and isinstance(right, str))):
                return left + right
            repeated = isinstance(left, list) and isinstance(right, int) and 0 <= right <= 1000
            if not adding and (numbers or repeated):
                return left * right
    return None


def _merge(base: Any, change: Any) -> Any:
    """``change`` on ``base``, dict by dict; one with ``_delete_`` replaces (mmengine's inheritance)."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    if change.get("_delete_"):
        return {name: value for name, value in change.items() if name != "_delete_"}
    merged = dict(base)
    for name, value in change.items():
        merged[name] = _merge(base.get(name), value)
    return merged
