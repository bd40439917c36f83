"""Who needs class scores of whole videos and has none hears it before the first step."""

import pytest

from tal_core.training.config import build_config
from tal_core.training.loop import train
from tal_core.training.run import create_run
from tal_core.types import InputError
from tests.training.synthetic import make_dataset

SETTINGS = {"bmn": {"classifier": "video_scores"}, "bsn": {"classifier": "video_scores"}}


@pytest.mark.parametrize("method", SETTINGS)
def test_training_without_class_scores_fails_at_once(home, method):
    make_dataset(home)
    run = create_run(home, "tiny", method, build_config(method, SETTINGS[method]), "r")
    with pytest.raises(InputError, match=r"no video-level class scores.*--class-scores") as raised:
        train(home, run)
    assert "\n" not in str(raised.value)
    assert run.status()["state"] == "failed" and run.metrics().empty
