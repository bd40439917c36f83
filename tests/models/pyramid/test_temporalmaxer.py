"""What is TemporalMaxer's own: its pooling, its norm, its assignment; the rest is in test_pyramid."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tal_core.models.config import validated
from tal_core.models.pyramid.temporalmaxer import (
    METHOD,
    TemporalMaxer,
    TemporalMaxerConfig,
    assign,
    halve,
    padded_group_norm,
)
from tal_core.models.shared.clips import collate
from tal_core.postprocessing.candidates import suppression
from tal_core.postprocessing.nms import suppress
from tal_core.types import InputError, TimeGrid
from tests.models.pyramid.golden_case import LEVELS, TEMPORALMAXER, cells_of, close, inputs, nothing


@pytest.mark.parity
@pytest.mark.parametrize("name", ["eval", "long"])
@torch.no_grad()
def test_pyramid(name):
    case, model, batch = TEMPORALMAXER.arrays, TEMPORALMAXER.make(), TEMPORALMAXER.batch(name)
    # Everything that the reference runs, padding included.
    padded = 256 if name == "eval" else 304
    rest = padded - batch["features"].shape[1]
    levels, masks = model.pyramid(F.pad(batch["features"], (0, 0, 0, rest)), F.pad(batch["mask"], (0, rest)))
    necks = model.normalised(levels, padded)
    for level in LEVELS:
        close(levels[level].transpose(1, 2), case[f"{name}_backbone_L{level}"], 5e-5)
        close(necks[level].transpose(1, 2), case[f"{name}_neck_L{level}"], 5e-5)
        assert np.array_equal(masks[level], case[f"{name}_mask_L{level}"])


def by_cell(model, batch):
    """Logits and distances of the valid cells."""
    logits, cells = model.outputs(**inputs(batch))
    return logits[cells.valid], model.heads.distances(cells)[cells.valid]


@pytest.mark.parametrize("lengths", [(1,), (30, 31), (129,), (231, 140), (255, 256), (257,), (304,)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_short_padding_equals_full_padding(lengths, kernel, monkeypatch):
    model = TEMPORALMAXER.random(kernel_size=kernel)
    batch = collate([(torch.randn(n, 7), np.array([[0, 0.7 * n]]), np.array([1])) for n in lengths])
    runs = []
    for full in (False, True):
        if full:
            monkeypatch.setattr(model, "_run_length", lambda length, padded: padded)
        model.zero_grad()
        model.normaliser.value.fill_(100.0)
        loss = model.loss(batch)["loss"]
        loss.backward()
        runs.append((*by_cell(model, batch), loss, [weight.grad for weight in model.parameters()]))
    (logits, distances, loss, gradients), (all_logits, all_distances, all_loss, all_gradients) = runs
    torch.testing.assert_close(logits, all_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(distances, all_distances, rtol=1e-4, atol=1e-4)
    assert loss.item() == pytest.approx(all_loss.item(), rel=1e-5)
    for ours, theirs in zip(gradients, all_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()) + 1e-6)


def test_pooling_and_group_norm_are_those_of_torch():
    torch.manual_seed(0)
    x = torch.rand(2, 16, 12)
    expected = F.max_pool1d(x.transpose(1, 2), 3, stride=2, padding=1).transpose(1, 2)
    assert torch.equal(halve(x), expected)
    behind = torch.randn(12)
    whole = torch.cat([x, behind.expand(2, 20, 12)], dim=1)
    expected = F.group_norm(whole.transpose(1, 2), 4).transpose(1, 2)[:, :16]
    torch.testing.assert_close(padded_group_norm(x, 36, behind), expected)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["train", "alttrain_keep_half"])
@torch.no_grad()
def test_assignment(name):
    case, batch = TEMPORALMAXER.arrays, TEMPORALMAXER.batch(name)
    model = TEMPORALMAXER.make(**TEMPORALMAXER.training[name])
    outputs = model.outputs(**inputs(batch))
    around = model.targets(outputs, batch["segments"], batch["labels"])
    found = assign(around, outputs.logits, model.heads.distances(outputs.cells), model.config)
    positive = around.candidates.any(dim=1)
    assert positive.sum() == case[f"{name}_num_pos"]
    for row in (0, 1):
        count = len(batch["segments"][row])
        valid = case[f"{name}_valid_mask"][row]
        index = torch.cat([cells_of(outputs.cells, row, level) for level in LEVELS])
        assert len(index) == valid.sum()
        chosen = case[f"{name}_pos_mask"][row]
        assert np.array_equal(positive[index], chosen[valid]) and not chosen[~valid].any()
        close(found.weights[index], case[f"{name}_pos_weights"][row, valid], 0)
        classes = np.zeros((len(index), 5))
        for cell, segment in np.argwhere(around.candidates[index].numpy()):
            classes[cell, batch["labels"][row][segment]] = 1
        assert np.array_equal(classes, case[f"{name}_gt_cls"][row, valid])
        rows = index[chosen[valid]]
        close(found.distances[rows], case[f"{name}_gt_offsets"][row, chosen], 1e-4)
        matrix = case[f"{name}_assign_matrix_video{row}"]
        assert np.array_equal(around.candidates[index, :count], matrix[valid] > 0)
        assert not around.candidates[index, count:].any()
        assert np.array_equal(found.cheapest[index], case[f"{name}_assign_argmin_video{row}"][valid])
        expected = case[f"{name}_assign_cost_video{row}"]
        most = expected[np.isfinite(expected)].max()
        close(found.cost[index, :count], expected, 1e-4 * max(1, most))


def test_segments_of_other_videos_are_no_candidates():
    """The shorter list of a batch is filled up with segments that mean nothing."""
    model = TEMPORALMAXER.make()
    one = (torch.randn(3, 48), np.array([[0, 2.0]], np.float32), np.array([2]))
    alone = TEMPORALMAXER.make().loss(collate([one]))["loss"].item()
    silent = (torch.zeros(1, 48), *nothing())
    assert np.isfinite(model.loss(collate([one, TEMPORALMAXER.video(0), silent]))["loss"].item())
    padded = (one[0], np.concatenate([one[1], np.zeros((5, 2), np.float32)]), np.array([2, 0, 0, 0, 0, 0]))
    assert TEMPORALMAXER.make().loss(collate([padded]))["loss"].item() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("length", [64, 65, 96, 97, 130, 333])
def test_windows_find_what_is_found_at_once(length):
    """Where a window's middle sees no further than its ends; the norm must not see all of time."""
    torch.manual_seed(0)
    near = {"levels": 2, "regression_bounds": [4], "embed_layers": 1, "head_layers": 2}
    settings = (
        TEMPORALMAXER.settings
        | near
        | {"neck_norm": "layernorm", "min_candidate_score": 0, "max_candidates": 10_000}
    )
    whole = TemporalMaxer(TemporalMaxerConfig(**settings), 6, 3).eval()
    parts = TemporalMaxer(TemporalMaxerConfig(**settings, detection_window=64), 6, 3).eval()
    torch.nn.init.normal_(whole.heads.regression.output.bias)
    parts.load_state_dict(whole.state_dict())
    features, grid = torch.randn(length, 6), TimeGrid(0.5, 0.25)
    (one, scores), (other, again) = (model.candidates(features, grid) for model in (whole, parts))

    def rows(found):
        table = np.column_stack([found.labels, found.segments, found.scores])
        return table[np.lexsort(table.round(4).T[::-1])]

    assert len(one) == len(other) > 3 * length
    np.testing.assert_allclose(rows(one), rows(other), atol=1e-4)
    torch.testing.assert_close(scores, again)


def test_settings_that_contradict_each_other():
    with pytest.raises(InputError, match=r"detection_window can't be 100: .* multiple of 64, such as 128"):
        validated(TemporalMaxerConfig, TEMPORALMAXER.settings | {"detection_window": 100})
    with pytest.raises(InputError, match=r"embed_dim can't be 30: .*multiple of 4"):
        validated(TemporalMaxerConfig, TEMPORALMAXER.settings | {"embed_dim": 30})
    validated(TemporalMaxerConfig, TEMPORALMAXER.settings | {"embed_dim": 30, "neck_norm": "layernorm"})
    assert METHOD.config().ranges[0] == (0, 4)


def test_suppression_runs_on_what_the_network_says():
    """In grid units and before anything is cut, as the reference does."""
    model = TEMPORALMAXER.make()
    with torch.no_grad():
        found, _ = model.decode(TEMPORALMAXER.video(0)[0])
    joined = [torch.cat(parts).numpy() for parts in zip(*found, strict=True)]
    kept = suppress(*joined, suppression(model.config))
    seconds = TEMPORALMAXER.grid(0).seconds(kept.segments).clip(0, TEMPORALMAXER.arrays["video0_duration"])
    close(seconds, TEMPORALMAXER.arrays["infer_video0_final_segments"], 2e-3)
