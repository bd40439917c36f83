"""The server's paths. ``make_application`` needs no network: tests and other servers mount it as it is."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import fastapi_offline
from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from tal_core import __version__
from tal_core.streaming.online.events import checked_features
from tal_core.streaming.server import messages
from tal_core.streaming.server.batching import Batcher
from tal_core.streaming.server.errors import Refusal, error_response
from tal_core.streaming.server.middleware import STATIC, Gate
from tal_core.streaming.server.service import RunEntry, Served, Service
from tal_core.streaming.server.sockets import serve_stream
from tal_core.streaming.server.uploads import features_of, save_upload
from tal_core.types import InputError

WAITING = 4
"""Detections that are worked on or wait, for each that is worked on."""

DESCRIPTION = f"""Temporal action localization of trained runs.

Detections of a file: `POST /v1/detect`. Scores and events of a stream: the WebSocket `/v1/stream`.

### WS /v1/stream

```
{messages.__doc__}
```

`ready` tells labels, channels, stride and the detector's delay. `scores` holds `seconds` (N) and `scores`
(N x classes). `event` is `start` or `end` of a segment; `end` is final. `warning`: a picture was left out,
the stream goes on. `error`: the last message before the server closes. Close codes: 1000 finished,
1009 message too large, 1012 server stops, 1013 no place, 4400 / 4401 / 4404 / 4408 / 4422 as the HTTP
status of the same digits.
"""


class Problem(BaseModel):
    """What went wrong, where, and how to fix it."""

    what: str
    where: str | None
    mend: str | None


class ErrorAnswer(BaseModel):
    """The form of every error."""

    error: Problem


class Runs(BaseModel):
    """All of them; the first is the default."""

    runs: list[RunEntry]


class Detection(BaseModel):
    """A segment in seconds with class and score."""

    segment: tuple[float, float]
    label: str
    score: float


class Detections(BaseModel):
    """Detections in one file, best first."""

    run: str
    snippets: int
    detections: list[Detection]


class DetectQuery(BaseModel):
    """What ``POST /v1/detect`` can be asked."""

    model_config = ConfigDict(extra="forbid")
    run: str | None = Field(None, description="Id of a served run; the first one by default.", max_length=80)
    min_score: float = Field(0.0, ge=0, le=1, description="Leave out weaker detections.")
    name: str = Field("", max_length=200, description="Name of a raw body's file; its ending says the kind.")


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "A feature file (.npy, .npz, .pt) or a video, as a form's part or as the raw body.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                    "additionalProperties": False,
                }
            },
            "application/octet-stream": _BINARY,
        },
    }
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer} for status in statuses}


def make_application(service: Service, names: tuple[str, ...] | None = None) -> FastAPI:
    """The ASGI application. ``names``: hosts that requests may ask for, None for any (see ``gate``)."""
    workers = _Workers(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with workers.running():
            yield

    app = FastAPI(
        title="TAL Studio",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(Gate, service=service, names=names)
    _add_errors(app)
    _add_docs(app)

    @app.get("/healthz", response_class=PlainTextResponse, summary="Is the server up?")
    async def healthz() -> str:
        return "ok"

    @app.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus", responses=_errors(401))
    async def metrics() -> Response:
        return Response(service.numbers.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/runs", summary="The runs that are served", responses=_errors(401))
    async def runs() -> Runs:
        return Runs(runs=[served.entry() for served in service.runs.values()])

    uploading, detecting = 0, 0

    @app.post(
        "/v1/detect",
        summary="Detections in a feature file or a video",
        openapi_extra=_BODY,
        responses=_errors(400, 401, 404, 408, 413, 422, 503),
    )
    async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Detections:
        nonlocal uploading, detecting
        served = service.run(query.run)
        busy = Refusal(503, "too many detections at once", hint="Try again in a few seconds.")
        if uploading >= service.limits.uploads:
            raise busy
        with tempfile.TemporaryDirectory(prefix="tal-upload-") as folder:
            uploading += 1
            try:
                path = await save_upload(request, Path(folder))
            finally:
                uploading -= 1
            if detecting >= WAITING * service.limits.detections:
                raise busy
            detecting += 1
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    workers.files, _detect, service, served, path, query
                )
            finally:
                detecting -= 1

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await serve_stream(socket, service, workers.batchers, workers.pictures)

    return app


class _Workers:
    """The threads in which the server works: one for each online model, some for pictures, some for files."""

    pictures: ThreadPoolExecutor
    files: ThreadPoolExecutor

    def __init__(self, service: Service):
        self.service = service
        self.batchers: dict[str, Batcher] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have them for as long as the server runs; in the end each finishes what it is at."""
        self.pictures = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pictures")
        self.files = ThreadPoolExecutor(self.service.limits.detections, thread_name_prefix="files")
        async with AsyncExitStack() as stack:
            for run_id, served in self.service.runs.items():
                if served.online is not None:
                    batcher = Batcher(served.online, self.service.numbers.batch.observe)
                    self.batchers[run_id] = await stack.enter_async_context(batcher)
            try:
                yield
            finally:
                for pool in (self.pictures, self.files):
                    await asyncio.to_thread(pool.shutdown, cancel_futures=True)


def _detect(service: Service, served: Served, path: Path, query: DetectQuery) -> Detections:
    features, grid = features_of(path, served, service.limits, query.name or "file")
    table = served.detect(checked_features(features, served.num_features), grid, "file")
    table = table[table["score"] >= query.min_score].sort_values("score", ascending=False, kind="stable")
    service.numbers.detections.labels(served.run_id).inc(len(table))
    columns = (table[name].tolist() for name in ("start", "end", "label", "score"))
    detections = [
        Detection(segment=(start, end), label=label, score=score)
        for start, end, label, score in zip(*columns, strict=True)
    ]
    return Detections(run=served.run_id, snippets=len(features), detections=detections)


def _add_errors(app: FastAPI) -> None:
    """One form for all errors, the framework's own included."""

    @app.exception_handler(InputError)
    async def told(_: Request, error: InputError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return error_response(Refusal(422, first["msg"], where=where, hint="See /docs for what is expected."))

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        answer = error_response(Refusal(error.status_code, str(error.detail), hint="See /docs."))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        what = f"the server failed ({type(error).__name__})"
        return error_response(Refusal(500, what, hint="Its log says more."))


def _add_docs(app: FastAPI) -> None:
    """Swagger UI from files of an installed package: nothing is asked of any other server."""
    folder = Path(fastapi_offline.__file__).parent / "static"
    app.mount(STATIC, StaticFiles(directory=folder), name="docs-files")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title="TAL Studio server",
            swagger_js_url=f"{STATIC[1:]}/swagger-ui-bundle.js",
            swagger_css_url=f"{STATIC[1:]}/swagger-ui.css",
            swagger_favicon_url=f"{STATIC[1:]}/favicon.png",
            swagger_ui_parameters={"validatorUrl": None},
        )
