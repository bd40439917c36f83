import shutil
import time

import pytest
from streamlit.testing.v1 import AppTest

from tal_core.background.processes import this_process
from tal_core.models.registry import METHODS
from tal_core.models.settings import form_fields
from tal_core.runs.run import list_runs
from tal_core.training.profile import Cost
from tal_core.types import InputError
from tests.pages.page_tools import (
    button,
    finish,
    open_page,
    selectbox,
    small_dataset,
    small_run,
    table,
    texts,
)


@pytest.fixture(autouse=True)
def dataset(tmp_path, home):
    small_dataset(tmp_path, home)


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """Ids of the runs that the page started; no process is."""
    ids: list[str] = []
    monkeypatch.setattr("tal_core.training.launch.start", lambda home, run: ids.append(run.run_id))
    return ids


def watch(run_id: str = "first"):
    return open_page("train", panel="Watch a run", run=run_id)


@pytest.mark.parametrize("method", METHODS)
def test_form_has_every_setting_with_its_help(method):
    app = open_page("train", dataset="small", method=method)
    widgets = [*app.number_input, *app.text_input, *app.selectbox, *app.toggle]
    shown = {widget.key: widget for widget in widgets}
    for field in form_fields(METHODS[method].config):
        assert shown[f"set:{method}:{field.name}"].help == field.help


def test_start_makes_a_run_with_the_settings_and_shows_it(home, started):
    app = open_page("train", dataset="small")
    app.number_input(key="set:baseline:epochs").set_value(7)
    app.text_input(key="set:baseline:learning_rate").set_value("5e-4")
    app.text_input(key="run_name").set_value("mine")
    button(app, "Start training").click().run()
    assert not app.exception and not app.error
    assert started == ["mine"]
    config = list_runs(home)[0].config()
    assert (config["dataset"], config["epochs"], config["learning_rate"]) == ("small", 7, 5e-4)
    assert app.query_params["run"] == "mine" and app.query_params["panel"] == "Watch a run"


@pytest.mark.parametrize(
    "key,value,complaint",
    [
        ("set:baseline:learning_rate", "fast", "learning_rate"),
        ("set:baseline:learning_rate", "-1", "learning_rate"),
        ("run_name", "../up", "can't be the name"),
        ("run_name", "first", "already"),
    ],
)
def test_wrong_settings_get_a_box_and_start_nothing(home, started, key, value, complaint):
    small_run(home, "stopped")
    app = open_page("train", dataset="small")
    app.text_input(key=key).set_value(value)
    button(app, "Start training").click().run()
    assert not app.exception
    assert complaint in app.error[0].value
    assert not started and len([run for run in list_runs(home) if not run.shipped]) == 1


def test_another_training_is_announced(home):
    small_run(home, "running", heartbeat=time.time(), **this_process())
    assert "**first** is training now" in open_page("train", dataset="small").warning[0].value


def test_a_running_training_shows_its_numbers(home):
    small_run(home, "running", epoch=1, step=30, steps=120, eta_seconds=90.0, message="Epoch 1 of 4",
              heartbeat=time.time(), **this_process())  # fmt: skip
    app = watch()
    assert not app.exception
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Best average mAP"] == "40.0 %" and metrics["Time left"] == "1 min 30 s"
    assert [b.label for b in app.button] == ["Stop"]


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_a_training_that_ended_early_can_be_resumed(home, state, monkeypatch):
    resumed = []
    monkeypatch.setattr("tal_core.training.launch.start", lambda home, run: resumed.append(run.run_id))
    small_run(home, state, error="The loss is not a number." if state == "failed" else None)
    app = watch()
    assert not app.exception
    assert bool(app.error) == (state == "failed")
    if app.error:
        assert "not a number" in app.error[0].value
    button(app, "Resume").click().run()
    assert resumed == ["first"]


def test_a_killed_process_is_told_with_its_reason(home):
    small_run(home, "running", pid=2**22 + 1, process_started=0.0, host=this_process()["host"])
    app = watch()
    assert "is gone" in app.error[0].value
    assert button(app, "Resume")


def test_a_finished_training_leads_on(home):
    finish(small_run(home, "finished", epoch=4))
    app = watch()
    assert not app.exception and not app.error
    assert not [b for b in app.button if b.label in ("Stop", "Resume")]


def test_a_run_deleted_under_the_page_gets_a_box(home):
    def live_part():
        from pages.train import watch as train_watch

        train_watch.watch("first", True)

    run = small_run(home, "running", heartbeat=time.time(), **this_process())
    app = AppTest.from_function(live_part, default_timeout=60).run()
    assert not app.exception and not app.error
    shutil.rmtree(run.folder)
    app.run()
    assert not app.exception
    assert "first" in app.error[0].value


def test_a_damaged_run_gets_a_box(home):
    run = small_run(home, "stopped")
    (run.folder / "status.json").write_text("{")
    app = watch()
    assert not app.exception
    assert "status.json" in app.error[0].value


def test_choosing_another_run(home):
    small_run(home, "stopped")
    small_run(home, "failed", run_id="second", error="out of memory")
    app = watch()
    selectbox(app, "Run").set_value("second").run()
    assert app.query_params["run"] == "second"
    assert "out of memory" in app.error[0].value


def test_nothing_to_watch_says_what_to_do():
    app = open_page("train", panel="Watch a run")
    assert not app.exception
    assert "New training" in texts(app) or app.selectbox


def test_auto_fills_the_form_and_gives_its_reasons():
    app = open_page("train", dataset="small", method="actionformer")
    assert not app.exception
    epochs = app.number_input(key="set:actionformer:epochs").value
    chosen = table(app, "because").set_index("setting")
    assert str(epochs) == chosen.loc["epochs", "value"] != chosen.loc["epochs", "default"]
    assert any(chosen.loc["epochs", "because"] in caption.value for caption in app.caption)
    assert str(app.text_input(key="set:actionformer:ema_decay").value) == chosen.loc["ema_decay", "value"]


def test_a_changed_value_keeps_what_auto_chose_beside_it():
    app = open_page("train", dataset="small", method="tridet")
    chosen = app.number_input(key="set:tridet:embed_dim").value
    app.number_input(key="set:tridet:embed_dim").set_value(64)
    button(app, "Check and measure cost").click()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tal_core.training.profile.measure_apart", measured)
        app.run()
    assert any(f"Auto: {chosen} – " in caption.value for caption in app.caption)
    assert app.number_input(key="set:tridet:embed_dim").value == 64


def test_presets_fill_the_form_anew(home, started):
    app = open_page("train", dataset="small", method="temporalmaxer", preset="defaults")
    assert app.number_input(key="set:temporalmaxer:sequence_length").value == 2304
    assert not any("Auto" in caption.value for caption in app.caption)
    selectbox(app, "Settings from").set_value("epic-noun").run()
    assert app.text_input(key="set:temporalmaxer:min_overlap").value == "0.3"
    assert "temporalmaxer_epic_slowfast_noun.yaml" in texts(app)
    assert app.query_params["preset"] == ["epic-noun"] or app.query_params["preset"] == "epic-noun"
    selectbox(app, "Method").set_value("baseline").run()
    assert selectbox(app, "Settings from").value == "auto", "another method has other presets"
    assert not app.exception and not app.warning


def test_every_method_starts_from_auto_without_complaint():
    for method in METHODS:
        app = open_page("train", dataset="small", method=method)
        assert not app.exception and not app.error, method


def test_what_will_go_badly_stands_above_the_start_button():
    app = open_page("train", dataset="small", method="actionformer", preset="defaults")
    assert "ema_decay" in app.warning[0].value


def test_contradictory_settings_name_the_field_and_what_is_allowed(home, started):
    app = open_page("train", dataset="small", method="actionformer", preset="defaults")
    app.text_input(key="set:actionformer:regression_bounds").set_value("4, 8")
    button(app, "Start training").click().run()
    assert "regression_bounds has 2 values" in app.error[0].value and "levels=6 needs 5" in app.error[0].value
    assert not started


def measured(home, dataset, model, config, limit):
    return Cost(
        parameters=2_500_000, gflops_per_minute=1.5, memory_mb=321.0, batch_size=2, step_seconds=0.25,
        detection_seconds=0.1, video_seconds=20.0, video_snippets=20, steps=240, training_seconds=61.0,
        device="cpu (1 threads)", precision="float32",
    )  # fmt: skip


def test_the_cost_is_measured_and_shown_until_settings_change(monkeypatch):
    monkeypatch.setattr("tal_core.training.profile.measure_apart", measured)
    app = open_page("train", dataset="small", method="actionformer")
    assert not app.metric
    button(app, "Check and measure cost").click().run()
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Parameters"] == "2.50 M" and shown["Training steps"] == "4 /s"
    assert shown["Detection"] == "200×" and shown["Whole training"] == "1 min 1 s"
    selectbox(app, "Settings from").set_value("thumos14").run()
    assert not app.metric


def test_a_failed_measurement_gets_a_box(monkeypatch):
    def failing(*_, **__):
        raise InputError("one step takes longer than 60 s here", hint="Lower batch_size.")

    monkeypatch.setattr("tal_core.training.profile.measure_apart", failing)
    app = open_page("train", dataset="small", method="actionformer")
    button(app, "Check and measure cost").click().run()
    assert not app.exception and "longer than 60 s" in app.error[0].value
