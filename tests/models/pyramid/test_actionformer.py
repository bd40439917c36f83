"""What is ActionFormer's own: its pyramid, its slots, its attention; the rest is in test_pyramid."""

import numpy as np
import pytest
import torch

from tal_core.models.config import validated
from tal_core.models.pyramid import actionformer
from tal_core.models.pyramid.actionformer import METHOD, ActionFormerConfig
from tal_core.models.pyramid.attention import local_attention
from tal_core.models.pyramid.slots import lay_out
from tal_core.models.shared.clips import collate
from tal_core.types import InputError
from tests.models.pyramid.golden_case import ACTIONFORMER, LEVELS, cells_of, close, inputs, nothing


@pytest.mark.parity
@pytest.mark.parametrize("name", ["eval", "long"])
@torch.no_grad()
def test_pyramid(name):
    case, model, batch = ACTIONFORMER.arrays, ACTIONFORMER.make(), ACTIONFORMER.batch(name)
    layout = model.lay_out(batch["mask"])
    for number, x in enumerate(model.pyramid(batch["features"], layout)):
        level = layout.levels[number]
        mask = case[f"{name}_mask_L{number}"]
        assert level.lengths == mask.sum(axis=1).tolist()
        for row, length in enumerate(level.lengths):
            assert mask[row, :length].all()
        for part, cells in (("backbone", x), ("neck", model.neck[number](x))):
            expected = case[f"{name}_{part}_L{number}"].transpose(0, 2, 1)
            for row, ours in enumerate(level.split(cells[0])):
                close(ours, expected[row, : len(ours)], 5e-5)
            padding = cells[0][level.invalid & ~level.gap]
            if len(padding):  # the same everywhere, and so is the reference's
                close(padding, np.broadcast_to(expected[0, -1], padding.shape), 1e-5)


def run_heads(model, batch):
    """Logits and distances of all cells, and the cells."""
    logits, cells = model.outputs(**inputs(batch))
    return logits, model.heads.distances(cells), cells


PADDINGS = [
    {},
    {"kernel_size": 5, "attention_windows": [3, 9, 5, -1, 9]},
    {"stem_blocks": 0, "position_encoding": True, "sequence_length": 512},
    {"levels": 1, "regression_bounds": [], "embed_layers": 1, "head_layers": 1, "kernel_size": 1},
]


@pytest.mark.parametrize("settings", PADDINGS)
@pytest.mark.parametrize(
    "lengths", [(1,), (30, 31), (129, 1, 2), (200, 170), (255, 256), (256, 256, 17), (257,)]
)
def test_a_few_cells_of_padding_do_as_well_as_all(lengths, settings, monkeypatch):
    # Rounding in float32 now and then flips a ReLU.
    model = ACTIONFORMER.random(**settings, drop_path=0.0).double()
    clips = [(torch.randn(n, 7), np.array([[-0.2, 0.7 * n]]), np.array([1])) for n in lengths]
    batch = collate(clips)
    batch["features"] = batch["features"].double()
    runs = []
    for reach in (None, 300):
        if reach:
            monkeypatch.setattr(
                actionformer,
                "lay_out",
                lambda n, full, levels, _, device: lay_out(n, full, levels, 300, device),
            )
        *outputs, where = run_heads(model, batch)
        model.zero_grad()
        model.normaliser.value.fill_(100.0)
        terms = model.loss(batch)
        terms["loss"].backward()
        cells = [part[where.valid] for part in outputs]
        runs.append([*cells, terms["loss"], *(weight.grad for weight in model.parameters())])
    assert len(outputs[0]) > sum(max(256, n) for n in lengths)
    for ours, expected in zip(*runs, strict=True):
        torch.testing.assert_close(
            ours, expected, rtol=1e-3, atol=1e-4 * float(expected.detach().abs().max()) + 1e-5
        )


@pytest.mark.parametrize("settings", PADDINGS[:3])
def test_videos_do_not_see_each_other(settings):
    model = ACTIONFORMER.random(**settings).eval()
    clips = [(torch.randn(n, 7), *nothing()) for n in (256, 3, 90)]
    *together, cells = run_heads(model, collate(clips))
    for row, clip in enumerate(clips):
        *alone, own = run_heads(model, collate([clip]))
        index = torch.cat([cells_of(cells, row, level) for level in LEVELS])
        for ours, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[index], expected[own.valid], rtol=1e-4, atol=1e-4)


def test_short_videos_run_short():
    model = ACTIONFORMER.random(sequence_length=2048)
    layout = model.lay_out(torch.arange(2000) < torch.tensor([[40], [1000]]))
    assert len(layout.levels[0].video) < 40 + 1000 + 5 * 16
    assert sum(layout.levels[0].lengths) == 1040


@pytest.mark.parametrize("lengths", [[1], [70, 3], [64, 65, 128], [500, 2, 300]])
@pytest.mark.parametrize("reach", [1, 4, 100])
def test_local_attention_is_attention_to_near_cells(lengths, reach):
    level = lay_out(lengths, [512] * len(lengths), 3, 1, "cpu").levels[0]
    torch.manual_seed(0)
    qkv = torch.randn(3, len(level.video), 2, 5, dtype=torch.float64, requires_grad=True)
    attended = level.split(local_attention(*qkv, level, reach))
    expected = []
    for q, k, v in zip(*map(level.split, qkv), strict=True):
        near = (torch.arange(len(q)) - torch.arange(len(q))[:, None]).abs() <= reach
        scores = torch.einsum("qhc,khc->hqk", q, k) / 5**0.5
        weights = scores.masked_fill(~near, -torch.inf).softmax(dim=2)
        expected.append(torch.einsum("hqk,khc->qhc", weights, v))
    for ours, one in zip(attended, expected, strict=True):
        torch.testing.assert_close(ours, one)
    gradients = [
        torch.autograd.grad(sum((part**3).sum() for part in parts), qkv)[0] for parts in (attended, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_left_out_branches_are_for_training_only():
    model = ACTIONFORMER.random(drop_path=0.5)
    batch = inputs(collate([(torch.randn(40, 7), *nothing())] * 2))
    assert not torch.equal(model.outputs(**batch).logits, model.outputs(**batch).logits)
    model.eval()
    assert torch.equal(model.outputs(**batch).logits, model.outputs(**batch).logits)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attention_heads": 3}, "attention_heads (3) has to divide embed_dim (512)"),
        ({"attention_windows": [19, 19]}, "attention_windows has 2 values"),
        ({"attention_windows": [8]}, "attention_windows can't hold 8"),
        ({"attention_windows": [1]}, "attention_windows can't hold 1"),
        ({"regression_bounds": [4, 8]}, "regression_bounds has 2 values, but levels=6 needs 5"),
        ({"regression_bounds": [4, 8, 8, 16, 32]}, "regression_bounds must rise"),
        ({"sequence_length": 1000}, "sequence_length can't be 1000"),
        ({"crop_low": 0.9, "crop_high": 0.5}, "crop_low (0.9) can't be above crop_high"),
        ({"resize": 4096}, "resize (4096) can't be above sequence_length"),
        ({"kernel_size": 4}, "kernel_size can't be 4"),
        ({"center_radius": 0}, "center_radius can't be 0"),
        ({"levels": 0}, "levels can't be 0"),
    ],
)
def test_contradictory_settings_are_named(settings, words):
    with pytest.raises(InputError) as error:
        validated(METHOD.config, settings)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_windows_of_the_reference():
    assert ActionFormerConfig().padding_multiple == 18 * 32
    assert ACTIONFORMER.config().padding_multiple == 128
    assert (
        ActionFormerConfig(
            **ACTIONFORMER.settings | {"attention_windows": [51, -1, -1, -1, -1]}
        ).padding_multiple
        == 64
    )
