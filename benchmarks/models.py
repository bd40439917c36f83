"""Times our methods beside the programs of their authors, on the same data and weights, in one run.

    python benchmarks/models.py --actionformer DIR --tridet DIR --temporalmaxer DIR --bmn DIR --bsn DIR \\
        --ssn DIR

Each DIR is a clone, any subset of: happyharrycn/actionformer_release, dingfengshi/TriDet,
TuanTNG/TemporalMaxer, JJBOY/BMN-Boundary-Matching-Network, yjxiong/action-detection and
wzmsltw/BSN-boundary-sensitive-network.pytorch. They run as they are (see references.py). Sizes are the
published ones:

* ActionFormer, TriDet, TemporalMaxer: THUMOS14, D = 2048. A step is forward, backward, gradient clipping,
  AdamW and the averaged weights, on 2 clips of the full 2304 snippets, where no padding can be saved.
  Inference is one video of 1500 snippets, from features to candidates before NMS.
* BMN, BSN: ActivityNet, 100 snippets, D = 400. The memory is the peak of a process of its own.
* SSN: its heads, on 8 proposals of each of 16 videos, D = 1024.
* NMS: against the C++ operator of ActionFormer's checkout, if there is a compiler; soft-NMS, sigma 0.5,
  min_score 0.001. The C++ always runs to the end and cuts afterwards.

The two take turns; times are the least of several, which other programs disturb least. ``difference`` is the
largest absolute one between their outputs: of networks in float32 with the same weights, of losses where only
a step is timed, and of final scores.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import references
import torch
from common import parser_of
from proposal_models import measure, time_bmn, time_bsn, time_ssn
from timing import Setup, clip, count, heading, on, shake, step_of, take_over
from torch import nn

from tal_core.models.pyramid import tridet
from tal_core.models.pyramid.blocks import read
from tal_core.models.registry import get_method
from tal_core.models.shared.clips import collate
from tal_core.postprocessing.nms import Suppression, suppress
from tal_core.types import TimeGrid

PYRAMIDS = ("actionformer", "tridet", "temporalmaxer")
FEATURES, CLASSES, CLIP, VIDEO = 2048, 20, 2304, 1500


# ActionFormer, TriDet, TemporalMaxer


def time_pyramid(setup: Setup, name: str) -> None:
    """Training step and inference of one of the pyramid methods."""
    method, device = get_method(name), setup.device
    config = method.config()
    model = method.build(config, FEATURES, CLASSES).to(device)
    reference = references.Pyramid(name, setup.checkout(name), device)
    shake(reference.model)
    take_over(model, _module(method).from_reference(reference.model.state_dict()))

    clips = [clip(CLIP, FEATURES, CLASSES, seed) for seed in (1, 2)]
    batch, theirs = on(device, collate(clips)), [_video(one, device) for one in clips]
    features = clip(VIDEO, FEATURES, CLASSES, 3)[0].to(device)
    video = _video((features.cpu(), *clips[0][1:]), device)

    heading(f"{method.title}: {count(model):.1f} M parameters, reference {count(reference.model):.1f} M")
    gap = _gap(model, reference, features, video)
    step = step_of(setup, model, config, average=True)
    setup.compare(
        f"training step, 2 x {CLIP}",
        {"ours": lambda: step(batch), "reference": lambda: reference.step(theirs, setup.autocast)},
    )

    def infer():
        model.eval()
        with setup.autocast():
            return model.candidates(features, TimeGrid(0.16, 0.32))

    setup.compare(
        f"inference, {VIDEO} snippets",
        {"ours": infer, "reference": lambda: reference.infer(video, setup.autocast)},
        difference=gap,
    )


def _module(method: Any) -> Any:
    return sys.modules[method.build.__module__]


def _video(one: tuple, device: torch.device) -> dict:
    """A clip as the references take it."""
    features, segments, labels = one
    return {
        "video_id": "video",
        "feats": features.T.contiguous().to(device),
        "segments": torch.from_numpy(segments),
        "labels": torch.from_numpy(labels),
        "fps": 25.0,
        "duration": 0.16 * len(features),
        "feat_stride": 4,
        "feat_num_frames": 16,
    }


@torch.no_grad()
def _gap(model: nn.Module, reference: references.Pyramid, features: torch.Tensor, video: dict) -> float:
    """Largest difference of logits, distances (or bins) and boundary logits on real cells."""
    model.eval()
    mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
    logits, cells = model.outputs(features[None], mask)
    read_off = {"logits": logits, "distances": model.heads.distances(cells)}
    if isinstance(model, tridet.TriDet):
        read_off |= {"start": read(model.start, cells), "end": read(model.end, cells)}
    ours = {
        name: [part[cells.valid & (cells.level == n)] for n in range(model.config.levels)]
        for name, part in read_off.items()
    }
    gaps = []
    for name, levels in reference.outputs(video).items():
        for level, (one, other) in enumerate(zip(ours[name], levels, strict=True)):
            real = -(-len(features) // 2**level)
            gaps.append((one[:real] - other[0, :real]).abs().max().item())
    return max(gaps)


# NMS


def scored_segments(per_class: int, videos: int, seed: int) -> tuple[np.ndarray, ...]:
    """``per_class`` candidates of each class in each video, like a detector's on THUMOS14."""
    rng = np.random.default_rng(seed)
    total = per_class * CLASSES * videos
    middle, length = rng.uniform(0, 220, total), rng.gamma(1.5, 2, total) + 0.3
    segments = np.stack([middle - length / 2, middle + length / 2], axis=1).astype(np.float32)
    scores = (1 / (1 + np.exp(-rng.normal(-2.5, 1.5, total)))).astype(np.float32)
    labels = np.tile(np.arange(CLASSES), per_class * videos)
    return segments, scores, labels, np.repeat(np.arange(videos), per_class * CLASSES)


def time_nms(setup: Setup) -> None:
    """One video against the C++ operator, then the videos of THUMOS14 at once."""
    checkout = setup.checkout("actionformer")
    operator = references.nms(checkout) if checkout else None
    heading("Soft-NMS" + ("" if operator else ", without the C++ operator: no checkout or no compiler"))
    cases = (("2 000 of 20 classes", 100, 1), ("20 x 2 000", 2000, 1), ("213 videos x 2 000", 100, 213))
    for title, per_class, videos in cases:
        arrays = scored_segments(per_class, videos, 0)
        for by_class, most in itertools.product((True, False), (200, 0)):
            settings = Suppression(max_detections=most, nms_per_class=by_class)
            functions, gap = {"ours": functools.partial(suppress, *arrays[:3], settings, arrays[3])}, None
            if operator and videos == 1:
                # A count of 0 would cut everything there.
                tensors = [torch.from_numpy(array) for array in arrays[:3]]
                functions["reference"] = functools.partial(
                    operator.batched_nms, *tensors, 0.1, 0.001, most or 10**9, True, by_class, 0.5, 0.0
                )
                gap = np.abs(functions["ours"]().scores - functions["reference"]()[1].numpy()).max()
            name = f"{title}, {'per class' if by_class else 'agnostic'}, {f'best {most}' if most else 'all'}"
            setup.compare(name, functions, gap)


def parts(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[Setup], None]]]:
    """What there is to run."""
    if options.actionformer or not any(getattr(options, name) for name in (*PYRAMIDS, "bmn", "bsn", "ssn")):
        yield "nms", time_nms
    for name in PYRAMIDS:
        if getattr(options, name):
            yield name, functools.partial(time_pyramid, name=name)
    for name, function in (("bmn", time_bmn), ("bsn", time_bsn), ("ssn", time_ssn)):
        if getattr(options, name):
            yield name, function


def main() -> None:
    """Prints the table."""
    parser = parser_of(__doc__)
    for name in (*PYRAMIDS, "bmn", "bsn", "ssn"):
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help="the reference's checkout")
    parser.add_argument("--only", action="append", help="only this part, such as nms or bmn (repeatable)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each program")
    parser.add_argument("--threads", type=int, default=2, help="CPU cores")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="of both")
    parser.add_argument("--compile", action="store_true", help="compile our networks")
    parser.add_argument(
        "--bmn-reference-batch",
        type=int,
        default=8,
        help="largest batch that BMN's reference runs for its memory; 8 needs 11 GB",
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    setup = Setup(options)
    if options.measure:
        measure(setup)
        return
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {options.threads} threads"
    print(f"{name}, {options.precision}, PyTorch {torch.__version__}; least of {options.repeats}")
    begin = time.perf_counter()
    for part, function in parts(options):
        if options.only is None or part in options.only:
            function(setup)
    print(f"\n{time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
