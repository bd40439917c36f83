"""What the page tests share: the app on a page, and a dataset so small that everything is quick."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from streamlit.testing.v1 import AppTest

from tal_core.data.dataset.registry import add_dataset
from tal_core.models.settings import build_config
from tal_core.runs.run import Run, create_run
from tal_core.workspace import write_json
from tests.paths import ROOT

APP = ROOT / "app.py"


def open_page(page: str, **query: str | list[str]) -> AppTest:
    """The app, gone from its first page to ``page`` with an address like ``?dataset=small``."""
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.run()
    for key, value in query.items():
        app.query_params[key] = value
    return app.switch_page(f"pages/{page}/page.py").run()


def texts(app: AppTest) -> str:
    """All words of the page that tests look for."""
    parts = [*app.title, *app.header, *app.subheader, *app.markdown, *app.caption, *app.warning]
    return "\n".join(str(part.value) for part in [*parts, *app.info, *app.success])


def small_dataset(folder: Path, home: Path, name: str = "small", broken: bool = False) -> None:
    """Six videos of 20 snippets, two classes; with ``broken`` one video has NaN features."""
    features = folder / f"{name}-features"
    features.mkdir(parents=True)
    random = np.random.default_rng(0)
    database = {}
    for number in range(6):
        values = random.normal(size=(20, 4)).astype(np.float32)
        if broken and number == 5:
            values[3] = np.nan
        np.save(features / f"v{number}.npy", values)
        database[f"v{number}"] = {
            "subset": "training" if number < 4 else "testing",
            "duration": 20.0,
            "annotations": [
                {"segment": [2.0, 6.0], "label": "jump"},
                {"segment": [8.0 + number, 12.0 + number], "label": "run"},
            ],
        }
    annotations = folder / f"{name}.json"
    annotations.write_text(json.dumps({"database": database}))
    add_dataset(home, name, annotations=annotations, features=features, snippet_seconds=1.0)


def small_run(home: Path, state: str, run_id: str = "first", **status) -> Run:
    """A run of the dataset ``small`` in any state, with metrics as a training writes them."""
    run = create_run(home, "small", "baseline", build_config("baseline", {"epochs": 4}), run_id=run_id)
    write_json(run.folder / "status.json", {**run.status(), "state": state, "epochs": 4, **status})
    lines = [
        {"kind": "step", "time": 1.0 * i, "epoch": 1, "step": i, "loss": 2 / (i + 1), "learning_rate": 1e-3}
        for i in range(30)
    ]
    lines.append(
        {"kind": "validation", "epoch": 1, "tiou": [0.3, 0.5], "mAP": [0.5, 0.3], "average_mAP": 0.4}
    )
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def finish(run: Run) -> None:
    """Give the run detections and an evaluation."""
    detection = {"segment": [2.0, 6.0], "label": "jump", "score": 0.9}
    write_json(run.folder / "detections.json", {"version": "1", "results": {"v4": [detection]}})
    per_class = {"jump": [0.5], "run": [0.0]}
    counts = {"num_videos": 2, "num_ground_truth": 4, "num_detections": 1, "ignored": {}}
    write_json(
        run.folder / "evaluation.json",
        {"tiou": [0.5], "mAP": [0.25], "average_mAP": 0.25, "per_class": per_class, **counts},
    )


def selectbox(app: AppTest, label: str):
    """The select box with this label."""
    return next(box for box in app.selectbox if box.label == label)


def button(app: AppTest, label: str):
    """The button with this label."""
    return next(button for button in app.button if button.label == label)


def table(app: AppTest, column: str) -> pd.DataFrame:
    """The first table that has this column."""
    return next(frame.value for frame in app.dataframe if column in frame.value)
