"""Benchmarks of BMN, BSN and SSN beside their authors' programs; part of models.py."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import references
import torch
from timing import Setup, clip, count, heading, on, row, shake, step_of, take_over

from tal_core.models.bmn import bmn
from tal_core.models.bsn import bsn
from tal_core.models.bsn.proposals import generate_proposals, proposal_features, soft_nms
from tal_core.models.shared.clips import collate
from tal_core.models.ssn import ssn

BMN_FEATURES, BMN_LENGTH = 400, 100
MEMORY_RUNS = (("bmn", 1), ("ours", 1), ("bmn", 8), ("ours", 8), ("ours", 16))
SSN_FEATURES, SSN_CLASSES = 1024, 20


# BMN


def bmn_batch(size: int, device: torch.device) -> dict:
    """Random videos of BMN's size, a few actions each."""
    return on(device, collate([clip(BMN_LENGTH, BMN_FEATURES, 5, seed, 3) for seed in range(size)]))


def bmn_labels(model: bmn.BMN, batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Our targets as the reference takes them: map, start and end."""
    truth = torch.stack(batch["segments"]) + 0.5
    real = torch.ones(truth.shape[:2], dtype=torch.bool, device=truth.device)
    first, last = model.matching.start, model.matching.last
    targets = bmn.make_targets(truth, real, batch["mask"], first, last)
    iou = truth.new_zeros(len(truth), BMN_LENGTH, BMN_LENGTH)
    iou[:, first, last] = targets.iou
    return iou, targets.start, targets.end


def our_bmn(device: torch.device) -> bmn.BMN:
    """The published network; without our class head, which the reference has no match for."""
    config = bmn.BMNConfig(classifier="video_scores")
    return bmn.BMN(config, BMN_FEATURES, 1).to(device)


def time_bmn(setup: Setup) -> None:
    """Building, training step, inference and soft-NMS of BMN."""
    device, place = setup.device, setup.checkout("bmn")
    reference, model = references.Bmn(place, device), our_bmn(device)
    shake(reference.model)
    take_over(model, bmn.from_reference(reference.model.state_dict()))
    batch = bmn_batch(1, device)
    channels_first, labels = batch["features"].transpose(1, 2).contiguous(), bmn_labels(model, batch)

    heading(f"BMN: {count(model):.1f} M parameters, reference {count(reference.model):.1f} M")
    build = {"ours": lambda: our_bmn(device), "reference": lambda: references.Bmn(place, device)}
    setup.compare("build the network and its sampling", build, repeats=1)

    model.eval()
    with torch.no_grad():
        ours = model(batch["features"], batch["mask"])
        confidence, start, end = reference.infer(channels_first, contextlib.nullcontext)
        matching = model.matching
        cells = confidence[:, :, matching.start, matching.last].transpose(1, 2)
        pairs = ((ours.confidence, cells), (ours.start, start), (ours.end, end))
        gap = max((one.sigmoid() - other).abs().max().item() for one, other in pairs)

    def infer():
        model.eval()
        with setup.autocast(), torch.no_grad():
            return model.video_maps(batch["features"][0])

    setup.compare(
        "inference, 1 video",
        {"ours": infer, "reference": lambda: reference.infer(channels_first, setup.autocast)},
        difference=gap,
    )
    edges, scores = _proposals()
    table = pd.DataFrame({"xmin": edges[:, 0], "xmax": edges[:, 1]}) / BMN_LENGTH
    table["score"] = scores
    arrays = torch.from_numpy(edges).float(), torch.from_numpy(scores)
    thin_out = {
        "ours": lambda: bmn.thin_out(*arrays, BMN_LENGTH),
        "reference": lambda: reference.post.soft_nms(table, 0.4, 0.5, 0.9).sort_values("score")[:0:-1],
    }
    lowered, theirs = thin_out["ours"]()[1].numpy(), thin_out["reference"]().score.values
    gap = np.abs(lowered - theirs).max()
    setup.compare(f"soft-NMS, {len(scores)} proposals", thin_out, difference=gap)
    step = step_of(setup, model, model.config, average=False)
    setup.compare(
        "training step, batch 1",
        {
            "ours": lambda: step(batch),
            "reference": lambda: reference.step(channels_first, labels, setup.autocast),
        },
    )
    measure_bmn_memory(setup)


def _proposals() -> tuple[np.ndarray, np.ndarray]:
    """Every pair of snippet edges ``(N, 2)``, best first, and scores from smooth curves."""
    curves = _curves()
    first, last = np.triu_indices(BMN_LENGTH, 1)
    scores = curves["start"].to_numpy()[first] * curves["end"].to_numpy()[last]
    order = np.argsort(-scores, kind="stable")
    return np.stack([first, last], axis=1)[order], scores[order]


def measure_bmn_memory(setup: Setup) -> None:
    """Peak memory of training steps, each in a process of its own, and their time."""
    found = {}
    for who, size in MEMORY_RUNS:
        if who == "bmn" and size > setup.options.bmn_reference_batch:
            continue
        arguments = ["--device", str(setup.device), "--precision", setup.options.precision]
        arguments += ["--bmn", str(setup.checkout("bmn")), "--measure", f"{who}:{size}"]
        command = [
            sys.executable,
            str(Path(__file__).with_name("models.py")),
            *arguments,
            "--threads",
            str(setup.options.threads),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"  BMN of {who} with batch {size} failed: {done.stderr.strip().splitlines()[-1:]}")
            continue
        found[who, size] = json.loads(done.stdout.splitlines()[-1])
    for size in (1, 8, 16):
        ours, theirs = found.get(("ours", size)), found.get(("bmn", size))
        if ours is None:
            continue
        if size > 1:
            row(f"training step, batch {size}", ours["seconds"], theirs and theirs["seconds"])
        row(f"peak memory, batch {size}", ours["MiB"], theirs and theirs["MiB"], unit="MiB")


def measure(setup: Setup) -> None:
    """Steps of one program; prints its least time and the peak memory of this process as JSON."""
    who, size = setup.options.measure.split(":")
    batch = bmn_batch(int(size), setup.device)
    if who == "ours":
        model = our_bmn(setup.device)
        step = functools.partial(step_of(setup, model, model.config, average=False), batch)
    else:
        labels = bmn_labels(our_bmn(setup.device), batch)
        channels_first = batch["features"].transpose(1, 2).contiguous()
        reference = references.Bmn(setup.checkout("bmn"), setup.device)
        step = functools.partial(reference.step, channels_first, labels, setup.autocast)
    seconds = setup.take_turns({who: step}, repeats=1)[who]
    peak = peak_memory(setup.device)
    print(json.dumps({"seconds": seconds, "MiB": peak}))


def peak_memory(device: torch.device) -> float:
    """Most memory that this process ever held there, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts the parent's memory before exec, too
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text(encoding="utf-8"))[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


# BSN


def _curves() -> pd.DataFrame:
    """Action, start and end curves of a video with some actions, as a trained TEM gives them."""
    rng = np.random.default_rng(5)
    time_of = (np.arange(BMN_LENGTH) + 0.5) / BMN_LENGTH
    begin = rng.uniform(0.02, 0.8, 8)
    end = begin + rng.uniform(0.02, 0.2, 8)

    def bumps(middle: np.ndarray) -> np.ndarray:
        height = rng.uniform(0.3, 0.9, len(middle))
        return (height * np.exp(-((time_of[:, None] - middle) ** 2) / 0.0006)).max(axis=1)

    inside = ((time_of[:, None] > begin) & (time_of[:, None] < end)).any(axis=1)
    curves = {"action": 0.1 + 0.7 * inside, "start": bumps(begin), "end": bumps(end)}
    noise = 0.03 * rng.random((3, BMN_LENGTH))
    table = pd.DataFrame(
        {name: curve + extra for (name, curve), extra in zip(curves.items(), noise, strict=True)}
    )
    table["xmin"], table["xmax"] = time_of - 0.5 / BMN_LENGTH, time_of + 0.5 / BMN_LENGTH
    return table.clip(0.0, 1.0)


def time_bsn(setup: Setup) -> None:
    """Steps of TEM and PEM, and the proposals of a video."""
    device = setup.device
    reference = references.Bsn(setup.checkout("bsn"), device)
    config = bsn.BsnConfig(classifier="video_scores")
    model = bsn.BSN(config, BMN_FEATURES, 1).to(device)
    for ours, theirs in ((model.tem, reference.tem), (model.pem, reference.pem)):
        shake(theirs)
        take_over(ours, theirs.state_dict())
    heading(f"BSN: {count(model):.2f} M parameters")

    batch = on(device, collate([clip(BMN_LENGTH, BMN_FEATURES, 5, seed, 3) for seed in range(16)]))
    targets = [
        bsn.boundary_targets(one, BMN_LENGTH, config.boundary_ratio, config.boundary_snippets)
        for one in batch["segments"]
    ]
    labels = [curve.contiguous() for curve in torch.stack(targets).unbind(dim=1)]
    channels_first = batch["features"].transpose(1, 2).contiguous()
    step = step_of(setup, model, config, average=False)
    gap = abs(step(batch).item() - reference.tem_step(channels_first, labels).item())
    setup.compare(
        "training step of TEM, 16 videos",
        {"ours": lambda: step(batch), "reference": lambda: reference.tem_step(channels_first, labels)},
        difference=gap,
    )
    rng = torch.Generator().manual_seed(2)
    values = torch.rand(16 * config.training_proposals, 32, generator=rng).to(device)
    rated = {"proposals": values, "iou": torch.rand(len(values), generator=rng).to(device)}
    gap = abs(step(rated).item() - reference.pem_step(values, rated["iou"]).item())
    setup.compare(
        f"training step of PEM, 16 x {config.training_proposals} proposals",
        {"ours": lambda: step(rated), "reference": lambda: reference.pem_step(values, rated["iou"])},
        difference=gap,
    )
    model.pem.load_state_dict(reference.pem.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        for name in ("TEM_results", "PGM_proposals", "PGM_feature"):
            (Path(folder) / "output" / name).mkdir(parents=True)
        path = Path(folder) / "output" / "TEM_results" / "video.csv"
        _curves().to_csv(path, index=False)
        curves = pd.read_csv(path)
        functions = {
            "ours": lambda: our_proposals(model, curves),
            "reference": lambda: reference.propose("video", Path(folder)),
        }
        (segments, scores), (their_segments, their_scores) = (function() for function in functions.values())
        gap = max(np.abs(segments - their_segments).max(), np.abs(scores - their_scores).max())
        setup.compare("proposals, features, PEM and soft-NMS of a video", functions, difference=gap)


@torch.no_grad()
def our_proposals(model: bsn.BSN, curves: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """As ``references.Bsn.propose``, with the parts of ``BSN.candidates``."""
    config = model.config
    found = generate_proposals(curves["start"].to_numpy(), curves["end"].to_numpy(), config.peak_threshold)
    segments, scores = found.segments[: config.max_pairs], found.scores[: config.max_pairs]
    features = torch.from_numpy(proposal_features(curves["action"].to_numpy(), segments))
    scores = scores * model.pem(features.to(model.mean)).double().cpu().numpy()
    order, scores = soft_nms(
        segments,
        scores,
        len(curves),
        sigma=config.proposal_sigma,
        overlap=(config.proposal_overlap, config.proposal_overlap_widest),
        keep=config.max_proposals,
    )
    return (segments[order] + 0.5) / len(curves), scores


# SSN


def time_ssn(setup: Setup) -> None:
    """A step of the heads, losses included."""
    videos, size, device = 16, SSN_FEATURES, setup.device
    reference = references.Ssn(setup.checkout("ssn"), size, SSN_CLASSES, device)
    config = ssn.SSNConfig(dropout=0)
    model = ssn.SSN(config, size, SSN_CLASSES).to(device)
    shake(reference.model)
    statistics = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    take_over_heads(model, ssn.from_reference(reference.model.state_dict(), statistics))

    rng = torch.Generator().manual_seed(3)
    kinds = torch.tensor([0, 1, 1, 1, 1, 1, 1, 2]).repeat(videos, 1)
    labels = torch.randint(1, SSN_CLASSES + 1, kinds.shape, generator=rng).where(kinds < 2, 0)
    snippets = torch.randn(videos, 8, 9, size, generator=rng).to(device)
    scaling, targets = torch.rand(2, videos, 8, 2, generator=rng).to(device)
    kinds, labels = kinds.to(device), labels.to(device)
    batch = {
        "snippets": snippets.flatten(0, 1),
        "scaling": scaling.flatten(0, 1),
        "labels": labels.flatten(),
        "kinds": kinds.flatten(),
        "targets": targets.flatten(0, 1),
        "blocks": videos,
    }
    heading(f"SSN heads: {count(model.heads):.2f} M parameters")
    optimizer = torch.optim.SGD(model.heads.parameters(), lr=1e-3, momentum=0.9)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model.loss(batch)["loss"]
        loss.backward()
        optimizer.step()
        return loss

    theirs = functools.partial(reference.step, snippets, scaling, labels, targets, kinds)
    gap = abs(step().item() - theirs().item())
    setup.compare(
        f"training step, {videos} x 8 proposals", {"ours": step, "reference": theirs}, difference=gap
    )


def take_over_heads(model: ssn.SSN, weights: dict[str, torch.Tensor]) -> None:
    """The heads' weights; the network of the proposals stays as it is."""
    take_over(
        model.heads,
        {name.removeprefix("heads."): value for name, value in weights.items() if "heads." in name},
    )
