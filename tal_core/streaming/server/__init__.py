"""The server: detections of a file by HTTP, scores and events of a stream by WebSocket."""

from tal_core.streaming.server.application import make_application
from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.service import Served, Service
from tal_core.streaming.server.uvicorn_server import make_server

__all__ = ["Limits", "Served", "Service", "make_application", "make_server"]
