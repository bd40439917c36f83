"""Puts a stream together: the run's detector, the extractor it was trained on, the source, the sinks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tal_core.inference.predict import load_model
from tal_core.runs.run import Run, open_run
from tal_core.streaming.live.addresses import registered_folders
from tal_core.streaming.live.folder import StreamFolder
from tal_core.streaming.live.recorder import StreamRecorder
from tal_core.streaming.live.session import Session
from tal_core.streaming.live.sinks import Sink
from tal_core.streaming.live.sources import FrameSource, open_source
from tal_core.streaming.online.events import OnlineModel
from tal_core.streaming.online.online import open_online
from tal_core.streaming.online.thresholds import online_rule
from tal_core.video.extractors.extractor import Extractor, make_extractor, spec_of


def open_detector(
    run: Run, *, delay: float | None = None, device: str = "auto"
) -> tuple[OnlineModel, Extractor]:
    """The detector of a run by its own rule, and the extractor whose features it was trained on.

    Raises:
        InputError: if the run can't serve a stream, or nothing here makes its features.
    """
    model = load_model(run, device=device)
    detector = open_online(model, delay=delay, rule=online_rule(run))
    return detector, make_extractor(spec_of(model.info), device)


def make_session(
    model: OnlineModel,
    source: FrameSource,
    extractor: Extractor,
    sinks: Sequence[Sink],
    run_id: str,
    **settings: Any,
) -> Session:
    """A session with a header that says what it is."""
    about = {"run": run_id, "source": source.shown, "delay": model.delay}
    return Session(model, source, extractor, sinks, about=about, **settings)


def detect_in_folder(home: Path, stream: StreamFolder, source: str, webhook: str | None = None) -> None:
    """Detect until the source ends or the folder's ``stop`` file appears. Raises InputError if it fails."""
    from tal_core.streaming.live.webhook import Webhook  # loads requests

    config = stream.request()
    run = open_run(home, config["run"])
    opened = open_source(source, paced=config["paced"], allowed=registered_folders(home))
    opened.shown = config["source"]
    model, extractor = open_detector(run, delay=config["delay"], device=config["device"])
    recorder = StreamRecorder(stream, model.labels)
    sinks: list[Sink] = [*recorder.sinks, *([Webhook(webhook)] if webhook else [])]
    session = make_session(model, opened, extractor, sinks, run.run_id)
    with recorder.watch(session):
        session.run()
