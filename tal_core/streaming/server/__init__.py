"""The server: detections of a file by HTTP, scores and events of a stream by WebSocket."""

from tal_core.streaming.server.application import make_application
from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.running import make_server
from tal_core.streaming.server.service import Served, Service

__all__ = ["Limits", "Served", "Service", "make_application", "make_server"]
