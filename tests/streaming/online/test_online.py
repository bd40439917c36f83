"""Runs that serve streams: MiniROAD by its state, other methods over a buffer."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tal_core.cli import main
from tal_core.inference.predict import TrainedModel, load_model, predict_features
from tal_core.models.registry import METHODS
from tal_core.models.settings import build_config
from tal_core.models.shared.weights import WeightsInfo
from tal_core.plots.delay_tradeoff import tradeoff_figure
from tal_core.runs.run import Run, create_run
from tal_core.streaming.live.opening import open_detector
from tal_core.streaming.online import delay_tradeoff
from tal_core.streaming.online.buffered import NetworkDetector
from tal_core.streaming.online.delay_tradeoff import measure_online, read_tradeoff
from tal_core.streaming.online.events import join_outputs
from tal_core.streaming.online.online import detect_online, online_output, open_online
from tal_core.streaming.online.thresholds import Rule, online_rule
from tal_core.streaming.server.service import open_served
from tal_core.training.loop import train
from tal_core.types import InputError, TimeGrid
from tal_core.workspace import DEMO
from tests.models.test_zoo import suggested
from tests.training.synthetic import FAST, make_dataset, make_run

RECURRENT = {
    "embed_dim": 16,
    "hidden_dim": 16,
    "window": 32,
    "window_stride": 16,
    "counted": 16,
    "batch_size": 4,
    "epochs": 30,
    "learning_rate": 0.02,
    "validate_every": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory):
    """A workspace with a run of each kind, and a video's features."""
    home = tmp_path_factory.mktemp("online") / "workspace"
    data = make_dataset(home, videos=12)
    recurrent = create_run(home, "tiny", "miniroad", build_config("miniroad", RECURRENT), "miniroad")
    buffered = make_run(home, run_id="baseline", **{**FAST, "epochs": 12, "validate_every": 0})
    for run in (recurrent, buffered):
        assert train(home, run) == "finished"
    video = data.videos("testing")[0]
    return {"miniroad": recurrent, "baseline": buffered, "features": data.features(video), "data": data}


kinds = pytest.mark.parametrize("kind", ["miniroad", "baseline"])


def same(first, second):
    """Whether both are the same events, up to rounding."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one.kind, one.segment, one.label) == (other.kind, other.segment, other.label)
        assert one.start == pytest.approx(other.start, abs=1e-4)
        assert one.end == pytest.approx(other.end, abs=1e-4)
        assert (one.score, one.decided) == pytest.approx((other.score, other.decided), abs=1e-4)


@kinds
def test_how_a_stream_is_cut_into_pushes_changes_nothing(trained, kind):
    model = open_online(trained[kind], delay=1.0)
    expected = online_output(model, trained["features"], chunk=1)
    assert len(expected.events) >= 3
    cuts = np.random.default_rng(0).integers(0, 9, 40)
    for chunks in ([60], [7] * 9, [*cuts, 60]):
        stream, left, outputs = model.open_stream(), trained["features"], []
        for size in chunks:
            part, left = left[:size], left[size:]
            outputs.append(stream.push(part))
        found = join_outputs([*outputs, stream.finish()])
        same(found.events, expected.events)
        assert found.seconds == pytest.approx(expected.seconds)
        assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    same(detect_online(model, trained["features"]), expected.events)


@kinds
def test_streams_pushed_together_are_as_alone(trained, kind):
    model = open_online(trained[kind], delay=1.0)
    features, alone = trained["features"], online_output(model, trained["features"])
    streams = [model.open_stream() for _ in range(3)]
    first = model.push_many([(streams[0], features[:20]), (streams[1], features[:0]), (streams[2], features)])
    second = model.push_many([(streams[1], features), (streams[0], features[20:])])
    same(join_outputs([first[0], second[1], streams[0].finish()]).events, alone.events)
    same(join_outputs([first[1], second[0], streams[1].finish()]).events, alone.events)
    same(join_outputs([first[2], streams[2].finish()]).events, alone.events)


@kinds
def test_what_is_found_is_the_truth(trained, kind):
    """Nearly every action of a held-out video, once."""
    truth = trained["data"].ground_truth(videos=[trained["data"].videos("testing")[0]])
    events = [e for e in detect_online(open_online(trained[kind], delay=1.0), trained["features"]) if e.end]
    hits = [
        any(
            e.label == row.label
            and min(e.end, row.end) - max(e.start, row.start) > 0.5 * (row.end - row.start)
            for e in events
        )
        for row in truth.itertuples()
    ]
    assert sum(hits) >= len(hits) - 1 and len(events) <= 2 * len(truth)


@kinds
def test_scores_are_those_of_the_snippets_in_order(trained, kind):
    output = online_output(open_online(trained[kind]), trained["features"], chunk=3)
    grid = load_model(trained[kind]).info.grid
    assert output.seconds == pytest.approx(grid.seconds(np.arange(60)))
    assert output.scores.shape == (60, 3) and output.scores.min() >= 0 and output.scores.max() <= 1


def test_miniroad_scores_as_over_the_whole_video(trained):
    _, whole = predict_features(trained["miniroad"], trained["features"])
    live = online_output(open_online(trained["miniroad"]), trained["features"], chunk=1).scores
    assert live == pytest.approx(whole, abs=1e-5)


@kinds
def test_a_gap_closes_what_is_open_and_forgets(trained, kind):
    model = open_online(trained[kind], delay=1.0)
    stream, features = model.open_stream(), trained["features"]
    before = join_outputs([stream.push(features[:25]), stream.gap(500.25)])
    same(before.events, join_outputs([*fresh(model, features[:25])]).events)
    after = join_outputs([stream.push(features[25:]), stream.finish()])
    expected = join_outputs(fresh(model, features[25:], TimeGrid(model.grid.stride, 500.25)))
    moved = [(e.kind, e.label, round(e.start, 3), round(e.decided, 3)) for e in after.events]
    assert moved == [(e.kind, e.label, round(e.start, 3), round(e.decided, 3)) for e in expected.events]
    assert all(e.start >= 500 for e in after.events) and after.seconds.min() == 500.25
    numbers = [e.segment for e in [*before.events, *after.events] if e.kind == "end"]
    assert len(set(numbers)) == len(numbers)
    with pytest.raises(InputError, match="can't go on"):
        stream.gap(float("nan"))


def fresh(model, features, grid=None):
    """Outputs of a stream of its own."""
    stream = model.open_stream(grid or model.grid)
    return [stream.push(features), stream.finish()]


@kinds
def test_wrong_features_are_refused_and_leave_the_stream_as_it_was(trained, kind):
    model = open_online(trained[kind], delay=1.0)
    features = trained["features"]
    stream, other = model.open_stream(), model.open_stream()
    first = stream.push(features[:30])
    broken = features[30:33].copy()
    broken[1, 2] = np.nan
    for wrong, text in ((broken, "NaN"), (features[:3, :4], "4 channels"), (features[0], "shape")):
        with pytest.raises(InputError, match=text):
            stream.push(wrong)
        with pytest.raises(InputError, match=text):
            model.push_many([(other, features[:30]), (stream, wrong)])
    rest = join_outputs([first, stream.push(features[30:]), stream.finish()])
    same(rest.events, detect_online(model, features))
    assert len(other.push(features[:30]).scores) == len(first.scores)  # it had not moved either


def test_a_buffered_detection_is_told_once_and_when_it_is_old_enough(trained):
    model = open_online(trained["baseline"], delay=2.0, buffer=24, step=2)
    stream, seen = model.open_stream(), []
    for count, row in enumerate(trained["features"], 1):
        for event in stream.push(row[None]).events:
            assert event.kind == "end" and event.decided == model.grid.seconds(count - 1)
            assert event.end <= event.decided - 2.0 + 1e-9
            seen.append(event)
    seen += stream.finish().events
    assert len(seen) >= 3 and [e.segment for e in seen] == list(range(len(seen)))
    for number, one in enumerate(seen):
        for other in seen[:number]:
            shared = min(one.end, other.end) - max(one.start, other.start)
            assert one.label != other.label or shared <= 0.5 * max(
                one.end - one.start, other.end - other.start
            )


@kinds
def test_nothing_below_the_threshold_is_told(trained, kind):
    def told(threshold):
        events = detect_online(open_online(trained[kind], threshold=threshold), trained["features"])
        return [e for e in events if e.kind == "end"]

    assert told(0.2) and not told(0.99999)


def test_the_rule_is_chosen_on_the_evaluation_subset_and_kept(trained, monkeypatch, capsys, tmp_path):
    run = trained["miniroad"]
    monkeypatch.setenv("TAL_HOME", str(run.folder.parent.parent))
    chosen = online_rule(run)
    assert chosen.f1 > 0.6 and 0 < chosen.low <= chosen.threshold < 1 and chosen.longest > 0
    assert (
        main(["online", "--run", "miniroad", "--delays", "2", "0", "--json", str(tmp_path / "o.json")]) == 0
    )
    assert "delay" in capsys.readouterr().out
    kept = json.loads((run.folder / "online.json").read_text())
    assert kept == json.loads((tmp_path / "o.json").read_text())
    assert Rule(**kept["rule"]) == chosen == online_rule(run)
    table = read_tradeoff(run)
    assert table["delay"].tolist() == [0, 2] and (table["average_mAP"] > 0.3).all()
    assert (table["frame_mAP"] > 0.5).all() and (table["start_latency"] < 3).all()
    assert table["end_latency"].iloc[0] < table["end_latency"].iloc[1]
    assert tradeoff_figure(table, "run").to_dict()["data"]
    (run.folder / "online.json").write_text("{}")
    for read in (online_rule, read_tradeoff):
        with pytest.raises(InputError, match="tal_core online --run miniroad"):
            read(run)
    (run.folder / "online.json").unlink()
    assert main(["online", "--run", "miniroad", "--delays", "-1"]) == 2


def test_delays_measured_together_are_as_alone_and_ask_the_network_once(trained, monkeypatch):
    run, data, asked = trained["baseline"], trained["data"], []
    detections = NetworkDetector.__call__

    def counted(detector, features, grid):
        asked.append((len(features), grid.offset))
        return detections(detector, features, grid)

    monkeypatch.setattr(NetworkDetector, "__call__", counted)
    monkeypatch.setattr(delay_tradeoff, "time", SimpleNamespace(perf_counter=lambda: float(len(asked))))
    alone = [measure_online(run, data, [delay])["tradeoff"][0] for delay in (0.0, 1.0)]
    separately = len(asked)
    asked.clear()
    together = measure_online(run, data, [0.0, 1.0])
    assert len(asked) < 0.75 * separately
    assert together["tradeoff"] == alone  # the cost, too: what was remembered counts
    offline = together["offline"]
    assert offline["average_mAP"] == pytest.approx(run.evaluation().average_mAP)
    assert 0 < offline["average_mAP_from_threshold"] <= offline["average_mAP"] + 1e-9


def test_a_run_that_was_never_measured_has_none(trained):
    assert read_tradeoff(trained["baseline"]) is None


def test_without_its_dataset_a_run_serves_by_the_usual_rule(trained, tmp_path):
    folder = tmp_path / "elsewhere" / "runs" / "moved"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "checkpoints/last.safetensors"):
        (folder / name).write_bytes((trained["miniroad"].folder / name).read_bytes())
    assert online_rule(Run(folder)) == Rule()
    assert detect_online(open_online(folder), trained["features"])


def test_a_shipped_run_serves_and_is_left_alone():
    model = open_online(DEMO / "runs" / "demo-baseline", delay=2.0)
    assert model.num_features and not (DEMO / "runs" / "demo-baseline" / "online.json").exists()


def test_streams_and_servers_take_the_runs_own_rule(home):
    run = Run(DEMO / "runs" / "demo-baseline")
    rule = online_rule(run)
    assert rule.f1 is not None and rule.threshold != Rule().threshold
    served = open_served(home, "demo-baseline", device="cpu").online
    for model in (open_detector(run, device="cpu")[0], served):
        assert model.threshold == rule.threshold and model.buffer == open_online(run).buffer


def test_a_wrong_delay(trained):
    with pytest.raises(InputError, match="delay"):
        open_online(trained["miniroad"], delay=-1)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_serves_a_stream(home, name):
    """One snippet, then more than the buffer, by an untrained network."""
    data = make_dataset(home, videos=4, snippets=40)
    config = suggested(name, data)
    network = METHODS[name].build(config, 5, 3).eval()
    info = WeightsInfo(name, data.labels, 5, 0, TimeGrid(0.5, 0.25))
    trained = TrainedModel(network, config, info, torch.device("cpu"))
    model = open_online(trained, delay=1.0, buffer=16, step=8, threshold=1e-6)
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    stream = model.open_stream()
    output = join_outputs([stream.push(features[:1]), stream.push(features[1:]), stream.finish()])
    assert all(e.start >= 0 and (e.end is None or e.start < e.end <= 20.01) for e in output.events)
    assert len(output.seconds) in (0, 40)
