"""What is TriDet's own: its pyramid and its trident head; the rest is in test_pyramid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tal_core.models.config import validated
from tal_core.models.pyramid.sgp import Stretch, wide_kernel
from tal_core.models.pyramid.tridet import TriDetConfig, from_reference
from tal_core.models.shared.clips import collate
from tal_core.types import InputError
from tests.models.pyramid.golden_case import LEVELS, TRIDET, cells_of, close, inputs


@pytest.mark.parity
@pytest.mark.parametrize("name", ["eval", "long"])
@torch.no_grad()
def test_pyramid(name):
    """With the padding given as features, all of it is run."""
    case, model, batch = TRIDET.arrays, TRIDET.make(), TRIDET.batch(name)
    rest = (256 if name == "eval" else 304) - batch["features"].shape[1]
    levels, masks = model.pyramid(F.pad(batch["features"], (0, 0, 0, rest)), F.pad(batch["mask"], (0, rest)))
    short, short_masks = model.pyramid(batch["features"], batch["mask"])
    for level in LEVELS:
        expected = case[f"{name}_backbone_L{level}"].transpose(0, 2, 1)
        tolerance = 1e-5 * np.abs(expected).max()
        close(levels[level], expected, tolerance)
        close(model.neck[level](levels[level]), case[f"{name}_neck_L{level}"].transpose(0, 2, 1), 1e-4)
        assert np.array_equal(masks[level], case[f"{name}_mask_L{level}"])
        cells = short[level].shape[1]
        close(short[level], expected[:, :cells], tolerance)
        assert np.array_equal(short_masks[level], case[f"{name}_mask_L{level}"][:, :cells])


@pytest.mark.parity
@pytest.mark.parametrize("network", TRIDET.networks)
@pytest.mark.parametrize("name", ["eval", "long"])
@torch.no_grad()
def test_distances(network, name):
    case, model, batch = TRIDET.arrays, TRIDET.make(network), TRIDET.batch(name)
    cells = model.outputs(**inputs(batch)).cells
    index, label = cells.valid.unsqueeze(1).expand(-1, 5).nonzero(as_tuple=True)
    ours = model.distances(cells, index, label)
    few = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:20]
    close(model.distances(cells, index[few], label[few]), ours[few], 1e-5)
    valid = np.concatenate([case[f"{name}_mask_L{level}"] for level in LEVELS], axis=1)
    expected = np.concatenate([case[f"{network}{name}_decoded_offsets_L{level}"] for level in LEVELS], axis=1)
    close(ours, expected[valid].reshape(-1, 2), 1e-4)


def by_level(model, batch):
    """All that the heads say of the valid cells of all videos, level by level."""
    logits, cells = model.outputs(**inputs(batch))
    index = torch.cat([cells_of(cells, row, level) for level in LEVELS for row in range(len(batch["mask"]))])
    return {name: part[index] for name, part in {"logits": logits, **TRIDET.read(model, cells)}.items()}


@pytest.mark.parametrize("lengths", [(1,), (30, 31), (129,), (200, 170), (255, 256), (257,)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": 5, "window_factor": 1.5, "boundary_kernel_size": 7, "embed_kernel_size": 5},
        {"window_factor": 1.5, "position_encoding": True, "sequence_length": 512, "stem_blocks": 0},
    ],
)
def test_constant_padding_is_counted_and_not_run(lengths, settings):
    model = TRIDET.random(**settings)
    clips = [(torch.randn(n, 7), np.array([[0, 0.7 * n]]), np.array([1])) for n in lengths]
    batch = collate(clips)
    longest = max(lengths)
    padded = 512 if "sequence_length" in settings else 256
    if longest > padded:
        padded = -(-longest // model.config.multiple) * model.config.multiple
    whole = {
        **batch,
        "features": F.pad(batch["features"], (0, 0, 0, padded - longest)),
        "mask": F.pad(batch["mask"], (0, padded - longest)),
    }
    ours, expected = by_level(model, batch), by_level(model, whole)
    for name, part in ours.items():
        torch.testing.assert_close(part, expected[name], rtol=1e-4, atol=1e-4)
    gradients = []
    for one in (batch, whole):
        model.zero_grad()
        model.normaliser.value.fill_(100.0)
        model.loss(one)["loss"].backward()
        gradients.append([weight.grad.clone() for weight in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) + 1e-5)


def test_short_videos_run_short():
    model = TRIDET.random(sequence_length=2048)
    runs = []
    model.embedding.register_forward_hook(lambda module, args, output: runs.append(output.shape[1]))
    model.branch[-1].register_forward_hook(lambda module, args, output: runs.append(output.x.shape[1]))
    model(torch.randn(1, 100, 7), torch.ones(1, 100, dtype=torch.bool))
    assert runs[0] < 130 and runs[1] < 40


def test_halving_is_max_pooling():
    torch.manual_seed(0)
    x = torch.randn(2, 16, 12)
    expected = F.max_pool1d(x.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
    assert torch.equal(Stretch(x, 16, 0, 0).halved(0).x, expected)


def test_wide_kernels():
    sizes = {(1, 5): 11, (1, 1.5): 3, (15, 1.3): 21, (3, 1.2): 5}
    assert {size: wide_kernel(*size) for size in sizes} == sizes


def test_boundary_heads_do_not_teach_the_pyramid():
    model = TRIDET.random()
    cells = model.outputs(torch.randn(1, 40, 7), torch.ones(1, 40, dtype=torch.bool)).cells
    torch.nn.init.zeros_(model.heads.regression.output.weight).requires_grad_(False)
    model.distances(cells, torch.tensor([20]), torch.tensor([0])).sum().backward()
    assert not model.embedding.convs[0].weight.grad.any() and model.start.convs[0].weight.grad.any()


def test_noise_and_left_out_branches_are_for_training_only():
    model = TRIDET.random(input_noise=0.5, drop_path=0.5)
    batch = torch.randn(1, 40, 7), torch.ones(1, 40, dtype=torch.bool)
    assert not torch.equal(model.outputs(*batch).logits, model.outputs(*batch).logits)
    model.eval()
    assert torch.equal(model.outputs(*batch).logits, model.outputs(*batch).logits)


def test_a_checkpoint_without_scales_multiplies_by_one():
    without = {name: value for name, value in TRIDET.weights.items() if "drop_path" not in name}
    state = from_reference({f"module.{name}": value for name, value in without.items()})
    assert torch.equal(state["branch.3.scale_mlp"], torch.ones(32))
    assert set(state) == set(from_reference(TRIDET.weights))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"embed_dim": 30}, "embed_dim can't be 30.*multiple of 16"),
        ({"window": 4}, "window can't be 4.*odd"),
        ({"boundary_kernel_size": 2}, "boundary_kernel_size can't be 2.*odd"),
        ({"bins": 0}, "bins can't be 0.*from 1 to 256"),
        ({"levels": 4}, "regression_bounds has 4 values"),
    ],
)
def test_settings_that_can_not_be(settings, words):
    with pytest.raises(InputError, match=words):
        validated(TriDetConfig, TRIDET.settings | settings)
