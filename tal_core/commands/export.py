"""``export``: a run's network for programs without this one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tal_core.commands.parsing import Commands, add_run, command, open_run_and_dataset
from tal_core.types import InputError

if TYPE_CHECKING:
    from tal_core.models.shared.weights import WeightsInfo


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "export",
        run_export,
        "write a run's network as TorchScript, torch.export or ONNX",
        "export --run first --format onnx --out first.onnx",
    )
    add_run(parser)
    parser.add_argument(
        "--format",
        required=True,
        choices=("torchscript", "torch-export", "onnx"),
        help="what will read it: PyTorch as TorchScript or as an exported program, or an ONNX runtime",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="F", help="the file; F.json describes it")


def run_export(options: argparse.Namespace) -> None:
    """Write the network, once it has given the run's scores on the dataset's features."""
    from tal_core.inference.predict import check_features, load_model
    from tal_core.streaming.online.export import export_run

    run, data = open_run_and_dataset(options.run)
    model = load_model(run, device="cpu")
    check_features(data.num_features, model.info, where=f"dataset {data.name}")
    videos = data.videos()[:2]
    if not videos:
        raise InputError(
            "no video has usable features to compare on", where=data.name, hint="Fix the dataset."
        )
    features = [data.features(video) for video in videos]
    written = export_run(model, options.format, options.out, features, _extractor(model.info))
    print(f"{options.out}: {written['method']} as {options.format}; {options.out}.json says how to use it")
    print(f"largest difference of scores on {len(videos)} videos: {written['largest_difference']:.2g}")


def _extractor(info: WeightsInfo) -> dict[str, Any] | None:
    """The extractor with all its settings; None for features that this program doesn't make."""
    from tal_core.video.extractors.extractor import spec_of

    try:
        return spec_of(info).model_dump(exclude_none=True)
    except InputError:
        return info.extractor
