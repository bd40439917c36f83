"""Settings derived from data are valid, fit it, and change with it; warnings count exactly."""

import math

import numpy as np
import pytest
import torch

from tal_core.models.config import validated
from tal_core.models.data_summary import DataSummary, summarise
from tal_core.models.pyramid import auto
from tal_core.models.pyramid.config import PyramidConfig
from tal_core.models.pyramid.points import match
from tal_core.models.registry import get_method
from tal_core.models.shared.clips import collate
from tests.models.pyramid.golden_case import points_of_levels
from tests.training.synthetic import make_dataset

PYRAMIDS = ["actionformer", "tridet", "temporalmaxer"]


def summary(videos=40, length=300, segment=12.0, count=15, seed=0, **changes) -> DataSummary:
    """``count`` segments around ``segment`` snippets in each of ``videos`` videos around ``length``."""
    random = np.random.default_rng(seed)
    number = videos * count
    fields = {
        "num_features": 32,
        "num_classes": 5,
        "stride": 0.5,
        "lengths": (length * random.uniform(0.5, 1.5, videos)).astype(np.int64).clip(1),
        "counts": np.full(videos, count),
        "segments": segment * random.lognormal(0, 0.6, number),
        "segment_classes": random.integers(0, 5, number),
        "starts": random.uniform(0, 200, number),
    }
    return DataSummary(**{**fields, **changes})


def config_for(data: DataSummary, model="actionformer"):
    method = get_method(model)
    chosen = method.suggest(data)
    return validated(method.config, {name: suggestion.value for name, suggestion in chosen.items()})


ODD = {
    "usual": summary(),
    "one video": summary(videos=1, count=1),
    "one snippet": summary(videos=3, length=1, segment=0.5, count=1, lengths=np.ones(3, np.int64)),
    "short actions": summary(segment=1.5),
    "long actions": summary(length=20_000, segment=6_000, count=2),
    "long videos": summary(length=20_000, segment=30),
    "whole videos": summary(videos=9_000, length=110, segment=50, count=1),
    "one class": summary(num_classes=1),
    "crowded": summary(count=200),
    "no segments": summary(count=0),
    "no videos": summary(videos=0, count=0),
}


@pytest.mark.parametrize("model", PYRAMIDS)
@pytest.mark.parametrize("name", ODD)
def test_suggestions_are_valid_and_give_reasons(model, name):
    config = config_for(ODD[name], model)
    assert config.levels == len(config.regression_bounds) + 1
    for suggestion in get_method(model).suggest(ODD[name]).values():
        assert suggestion.reason and "\n" not in suggestion.reason and len(suggestion.reason) < 100


@pytest.mark.parametrize("model", PYRAMIDS)
@pytest.mark.parametrize(
    "name", ["usual", "long videos", "whole videos", "one class", "crowded", "long actions"]
)
def test_suggestions_raise_no_warning(model, name):
    config = config_for(ODD[name], model)
    assert not get_method(model).check(config, ODD[name])


def test_clips_hold_the_longest_video_or_twice_the_longest_action():
    data = ODD["usual"]
    assert data.lengths.max() <= config_for(data).sequence_length < data.lengths.max() + 64
    assert config_for(ODD["long videos"]).sequence_length == auto.LONGEST_CLIP
    actions = ODD["long actions"]
    assert config_for(actions).sequence_length >= 2 * np.percentile(actions.segments, 99)


def test_longer_actions_get_more_levels_and_short_ones_finer_bounds():
    levels = [config_for(summary(length=2000, segment=s)).levels for s in (8, 32, 128)]
    assert levels == sorted(set(levels))
    assert config_for(summary(segment=2)).regression_bounds[0] == 2
    assert config_for(summary(segment=20)).regression_bounds[0] == 4


def test_few_segments_get_a_narrow_network_and_few_steps_a_short_average():
    small, large = config_for(summary(videos=20)), config_for(summary(videos=300))
    assert small.embed_dim < large.embed_dim
    assert small.ema_decay < large.ema_decay
    assert small.input_dropout > large.input_dropout == 0
    assert small.learning_rate > large.learning_rate
    for data in (summary(videos=20), summary(videos=2000)):
        config = config_for(data)
        steps = config.epochs * math.ceil(data.num_videos / config.batch_size)
        assert config.ema_decay**steps < 0.01


def test_tridets_blocks_can_learn_to_look_around():
    """The branches start at 0 as published for THUMOS14, and no gradient ever moves two factors of 0."""

    def gradient(**settings):
        config = config_for(summary(), "tridet").model_copy(update={"embed_dim": 32, **settings})
        torch.manual_seed(0)
        model = get_method("tridet").build(config, 6, 2)
        segments = np.array([[5.0, 15.0]], np.float32)
        model.loss(collate([(torch.randn(60, 6), segments, np.array([1]))]))["loss"].backward()
        return model.stem[0].psi.weight.grad.abs().max().item()

    assert gradient(sgp_init=0.0) == 0
    assert gradient() > 0


def test_videos_filled_by_an_action_are_stretched_to_one_length():
    assert config_for(ODD["whole videos"]).resize == 192
    assert config_for(ODD["usual"]).resize is None


def test_overlapping_actions_of_a_class_are_suppressed_less():
    crowd = config_for(summary(same_class_overlap=0.4))
    assert crowd.nms_sigma > config_for(summary()).nms_sigma


@pytest.mark.parametrize("radius", [1.5, 0.6, None])
@pytest.mark.parametrize("bounds", [[4, 8, 16], [2, 20, 21], [0.4], []])
def test_unassigned_segments_are_those_the_training_leaves_out(radius, bounds):
    random = np.random.default_rng(0)
    starts, lengths = (
        random.uniform(5, 150, 400),
        random.choice([0.3, 0.9, 1, 2, 4, 8, 16, 30, 33.3, 64], 400),
    )
    ranges = list(zip([0.0, *bounds], [*bounds, math.inf], strict=True))
    where = points_of_levels([256 >> level for level in range(len(ranges))], ranges)
    where = type(where)(*(part.double() for part in where))
    segments = torch.tensor(np.stack([starts, starts + lengths], axis=1))
    assigned = [bool(match(where, segments[i : i + 1], radius).candidates.any()) for i in range(400)]
    lost = auto.unassigned(starts, lengths, ranges, radius)
    assert lost.tolist() == [not found for found in assigned] and 0 < lost.sum() < 400


def test_segments_out_of_every_range_are_counted_with_better_bounds():
    data = summary(starts=np.full(600, 10.0), segments=np.full(600, 40.0))
    config = PyramidConfig(levels=3, regression_bounds=[1, 2], range_overlap=1, sequence_length=512)
    assert not auto.check_pyramid(config.model_copy(update={"ema_decay": None}), data), "the last has no end"
    short = summary(starts=np.full(600, 10.2), segments=np.full(600, 0.5))
    (text,) = auto.check_pyramid(config.model_copy(update={"ema_decay": None}), short)
    assert text.startswith("600 of 600 training segments") and "smaller stride" in text
    # Ends from 3 to 5 snippets away fall between a first level that ends at 2 and cells of stride 64.
    gap = PyramidConfig(levels=7, regression_bounds=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], sequence_length=512)
    (text,) = auto.check_pyramid(gap.model_copy(update={"ema_decay": None}), summary(segment=6.0))
    count = int(text.split()[0])
    lost = auto.unassigned(summary(segment=6.0).starts, summary(segment=6.0).segments, gap.ranges, 1.5)
    assert count == lost.sum() > 100 and "regression_bounds=" in text


def test_a_narrow_radius_is_told_apart_from_short_segments():
    config = PyramidConfig(
        levels=1, regression_bounds=[], sequence_length=512, center_radius=0.2, ema_decay=None
    )
    (text,) = auto.check_pyramid(config, summary(starts=np.full(600, 10.5), segments=np.full(600, 6.0)))
    assert text.startswith("600 of 600 training segments") and "set center_radius=1.5, which leaves 0" in text


def test_a_warm_up_that_takes_all_epochs_is_told():
    (text,) = auto.check_schedule(PyramidConfig(epochs=5, warmup_epochs=5))
    assert "warmup_epochs=5" in text and text.endswith("set warmup_epochs=0.5.")
    assert not auto.check_schedule(PyramidConfig(epochs=6, warmup_epochs=5))
    assert not auto.check_schedule(PyramidConfig(epochs=1, warmup_epochs=0))


def test_segments_longer_than_a_clip_and_a_slow_average_are_told():
    data = summary(segment=100.0, length=3000)
    config = PyramidConfig(sequence_length=64, epochs=6)
    texts = auto.check_pyramid(config, data)
    long = int((data.segments > 64).sum())
    assert any(text.startswith(f"{long} of 600 ") and "sequence_length=" in text for text in texts)
    assert any("ema_decay=0.999 and only 120 steps" in text and "89%" in text for text in texts)


def test_classes_never_trained_and_empty_videos_are_told():
    texts = auto.check_data(summary(unseen=("wave",), counts=np.array([0, 3, 0])))
    assert "1 of 5 classes" in texts[0] and "wave" in texts[0] and "2 of" in texts[1]
    assert not auto.check_data(summary())


def test_a_dataset_is_summarised_on_its_grid(home):
    data = summarise(make_dataset(home, videos=8, snippets=60))
    assert data.num_videos == 6 and data.stride == 0.5 and data.num_features == 5
    # The first action starts at snippet 4, whose centre is half a step later.
    assert data.starts.min() == pytest.approx(3.5)
    assert set(np.round(data.segments)) <= set(range(4, 10))
