"""What a folder of features says of itself when this program has extracted them from videos."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MANIFEST = "extraction.json"


class Extracted(NamedTuple):
    """The extractor's settings, and where its snippets lie in time."""

    extractor: dict[str, Any]
    stride_seconds: float
    offset_seconds: float


def read_extracted(features: Sequence[Path]) -> Extracted | None:
    """What the manifest in a single folder of features says; None without one, or for several streams."""
    if len(features) != 1:
        return None
    try:
        content = json.loads((Path(features[0]) / MANIFEST).read_text(encoding="utf-8"))
        stride, offset = float(content["stride_seconds"]), float(content["offset_seconds"])
        return Extracted(dict(content["spec"]), stride, offset)
    except (OSError, ValueError, KeyError, TypeError):
        return None
