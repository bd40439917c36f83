"""What all benchmarks share: this checkout on the path, the command line's form, timing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it is."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def timed(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> tuple[Any, float]:
    """Result and seconds of one call."""
    begin = time.perf_counter()
    result = function(*arguments, **keywords)
    return result, time.perf_counter() - begin


def least(function: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """Result and least seconds of several calls."""
    runs = [timed(function) for _ in range(repeats)]
    return runs[-1][0], min(seconds for _, seconds in runs)
