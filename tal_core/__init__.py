"""TAL Studio's engine: data, models, training, inference and evaluation for temporal action localization.

    import tal_core as tal

    run = tal.train("demo", "baseline", settings={"epochs": 2})
    print(tal.evaluate(tal.open_dataset("demo").ground_truth("testing"), run.detections()).average_mAP)

The names below are the public interface (``tal_core.interface``), loaded when first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_core.interface import (
        Comparison,
        compare,
        diagnose,
        evaluate,
        extract,
        load_annotations,
        load_detections,
        open_dataset,
        open_run,
        predict,
        proposals,
        segmentation,
        stream,
        train,
    )
    from tal_core.types import Annotations, InputError, TimeGrid

__version__ = "0.2.0"
__all__ = [
    "Annotations",
    "Comparison",
    "InputError",
    "TimeGrid",
    "__version__",
    "compare",
    "diagnose",
    "evaluate",
    "extract",
    "load_annotations",
    "load_detections",
    "open_dataset",
    "open_run",
    "predict",
    "proposals",
    "segmentation",
    "stream",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tal_core import interface  # it loads pandas

    return getattr(interface, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
