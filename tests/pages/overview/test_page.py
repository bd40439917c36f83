from tests.pages.page_tools import finish, open_page, small_dataset, small_run, table, texts


def test_fresh_workspace_shows_the_demo():
    app = open_page("overview")
    assert not app.exception
    assert "demo" in [header.value for header in app.subheader]
    assert "tIoU 0.3:0.1:0.7" in texts(app)


def test_datasets_and_runs_with_what_their_numbers_mean(tmp_path, home):
    small_dataset(tmp_path, home)
    finish(small_run(home, "finished", epoch=4))
    runs = table(open_page("overview"), "run").set_index("run")
    assert runs.loc["first", "mAP"] == 25.0
    assert runs.loc["first", "at"] == "tIoU 0.5" and runs.loc["first", "on subset"] == "testing"


def test_a_faulty_dataset_and_a_faulty_run_do_not_hide_the_others(tmp_path, home):
    small_dataset(tmp_path, home)
    (home / "datasets" / "bad.toml").write_text("name = [")
    run = small_run(home, "stopped")
    small_run(home, "stopped", run_id="second")
    (run.folder / "config.json").write_text("{")
    app = open_page("overview")
    assert not app.exception
    assert any("bad.toml" in box.value for box in app.error)
    assert "small" in [header.value for header in app.subheader]
    runs = table(app, "run").set_index("run")
    assert runs.loc["first", "state"] == "unreadable" and "config.json" in runs.loc["first", "problem"]
    assert runs.loc["second", "state"].startswith("stopped")


def test_a_dataset_whose_features_are_gone_gets_a_box(tmp_path, home):
    small_dataset(tmp_path, home)
    (tmp_path / "small-features").rename(tmp_path / "elsewhere")
    app = open_page("overview")
    assert not app.exception
    assert any("small-features" in box.value for box in app.error)


def test_unusable_videos_are_counted(tmp_path, home):
    small_dataset(tmp_path, home, broken=True)
    assert any("1 videos have no usable features" in box.value for box in open_page("overview").warning)
