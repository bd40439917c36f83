"""Every network answers the same calls: outputs, targets, loss and candidates, on awkward videos too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from tal_core.data.dataset.in_memory import InMemoryDataset
from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config
from tal_core.models.shared.clips import collate
from tal_core.models.ssn.stages import PROPOSERS
from tal_core.types import TimeGrid

CHANNELS, GRID = 6, TimeGrid(0.5, 0.25)
SMALL = {
    "attention_windows": [9],
    "levels": 3,
    "regression_bounds": [4, 8],
    "sequence_length": 64,
    "windows_per_epoch": 256,
    "batch_size": 3,
    "base_channels": 16,
    "classifier_channels": 16,
    "classifier_layers": 2,
    "embed_dim": 32,
    "epochs": 4,
    "head_dim": 32,
    "hidden_dim": 16,
    "map_channels": 8,
    "mlp_dim": 32,
    "repeats": 1,
    "sample_channels": 16,
    "tem_channels": 16,
}
# Forms of a method that compute in another way.
FORMS = {
    **{
        name: (name, {"length": 16} if "length" in METHODS[name].config.model_fields else {})
        for name in METHODS
    },
    "actionformer agnostic": ("actionformer", {"classes": "agnostic", "program": "opentad"}),
    "tridet opentad": ("tridet", {"program": "opentad"}),
    "temporalmaxer keep half": ("temporalmaxer", {"keep_share": 0.5}),
    "bsn video_scores": ("bsn", {"classifier": "video_scores", "length": None}),
    "bmn windows": ("bmn", {"input": "windows", "length": 16}),
    "ssn encoder": ("ssn", {"encoder_layers": 2, "encoder_channels": 16}),
    "ssn bsn": ("ssn", {"proposals": "bsn", "proposer_settings": "length=16 tem_channels=16"}),
    "ssn bmn": (
        "ssn",
        {"proposals": "bmn", "proposer_settings": "length=16 base_channels=16 map_channels=8"},
    ),
}
forms = pytest.mark.parametrize("form", FORMS)


def dataset(annotated=True, lengths=(40, 33, 25, 40)):
    random = np.random.default_rng(0)
    features = {
        f"v{n}": random.normal(size=(n_snippets, CHANNELS)).astype(np.float32)
        for n, n_snippets in enumerate(lengths)
    }
    rows = [(video, 2.0, 5.0, "kick") for video in features] + [
        (video, 6.5, 11.0, "wave") for video in features
    ]
    segments = pd.DataFrame(rows if annotated else [], columns=["video_id", "start", "end", "label"])
    if not annotated:
        first = pd.DataFrame([("v3", 1.0, 3.0, "kick"), ("v3", 4.0, 5.0, "wave")], columns=segments.columns)
        return InMemoryDataset(features, first, GRID, {"v3": "testing"})
    return InMemoryDataset(features, segments, GRID)


def made(form, data, **settings):
    name, own = FORMS[form]
    method = METHODS[name]
    fields = method.config.model_fields
    small = {key: value for key, value in SMALL.items() if key in fields}
    config = build_config(name, {**small, "device": "cpu", **own, **settings})
    torch.manual_seed(0)
    model = method.build(config, data.num_features, len(data.labels))
    method.prepare(model, data, config)
    return method, config, model


def clips(lengths, annotated=True, classes=2):
    segments = np.array([[1.5, 4.5], [3.5, 6.0]], np.float32) if annotated else np.zeros((0, 2), np.float32)
    return collate(
        [(torch.randn(n, CHANNELS), segments, np.arange(len(segments)) % classes) for n in lengths]
    )


def tensors(answer):
    return [
        part
        for part in ((answer,) if isinstance(answer, torch.Tensor) else answer)
        if isinstance(part, torch.Tensor)
    ]


@pytest.mark.parametrize("lengths", [(1,), (2, 1), (30, 17, 9)])
@pytest.mark.parametrize("annotated", [True, False])
@forms
def test_outputs_and_targets(form, lengths, annotated):
    _, _, model = made(form, dataset())
    batch = clips(lengths, annotated, classes=1 if "agnostic" in form else 2)
    outputs = model.outputs(batch["features"], batch["mask"])
    targets = model.targets(outputs, batch["segments"], batch["labels"])
    floating = [part for part in tensors(outputs) if part.is_floating_point()]
    assert floating and all(torch.isfinite(part).all() for part in floating)
    assert any(part.requires_grad for part in floating)
    assert tensors(targets) and not any(part.requires_grad for part in tensors(targets))


@pytest.mark.parametrize("annotated", [True, False])
@forms
def test_loss_and_gradients_are_finite(form, annotated):
    data = dataset(annotated)
    method, config, model = made(form, data)
    sampler = method.sampler(model, data, config)
    for epoch in range(config.epochs):
        for batch in list(sampler.epoch(epoch, torch.Generator().manual_seed(epoch))):
            model.zero_grad()
            terms = model.loss(batch)
            assert all(torch.isfinite(term) and term.ndim == 0 for term in terms.values()), terms
            if terms["loss"].requires_grad:
                terms["loss"].backward()
            gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
            assert all(torch.isfinite(gradient).all() for gradient in gradients)
            assert gradients or not annotated


@pytest.mark.parametrize("length", [1, 2, 3, 61])
@forms
def test_candidates(form, length):
    _, config, model = made(form, dataset())
    candidates, scores = model.eval().candidates(torch.randn(length, CHANNELS), GRID)
    assert candidates.segments.shape == (len(candidates), 2) and candidates.segments.dtype == np.float32
    assert candidates.scores.dtype == np.float32 and (np.diff(candidates.scores) <= 0).all()
    assert np.isfinite(candidates.segments).all() and (np.diff(candidates.segments) >= 0).all()
    assert set(candidates.labels.tolist()) <= ({-1} if config.needs_class_scores else {0, 1})
    assert scores is None if config.needs_class_scores else scores.shape == (length, 2)


@forms
def test_a_batch_is_the_same_each_time_it_is_read(form):
    data = dataset()
    method, config, model = made(form, data)
    runs = [method.sampler(model, data, config).epoch(0, torch.Generator().manual_seed(7)) for _ in range(2)]
    for first, second in zip(*map(list, runs), strict=True):
        assert str(first) == str(second)


@pytest.mark.parametrize("name", PROPOSERS)
def test_proposers_of_ssn_answer_alike(name):
    method, data = PROPOSERS[name], dataset()
    model = method.build(
        method.config(**({"length": 16} if "length" in method.config.model_fields else {})), CHANNELS, 2
    )
    method.prepare(model, data, method.config())
    batch = clips((20, 11))
    outputs = model.outputs(batch["features"], batch["mask"])
    assert tensors(model.targets(outputs, batch["segments"], batch["labels"]))
