"""Every refusal has one form, ``{"error": {"what", "where", "mend"}}``, and a fitting status or code."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from tal_core.types import InputError

# WebSocket close codes (RFC 6455; 4000-4999 belong to the application).
CLOSE_CODES = {400: 4400, 401: 4401, 404: 4404, 408: 4408, 422: 4422, 503: 1013}


class Refusal(InputError):
    """A request that is turned down: an ``InputError`` with an HTTP status."""

    def __init__(self, status: int, what: str, *, where: object = None, hint: str | None = None):
        super().__init__(what, where=where, hint=hint)
        self.status = status

    @property
    def close_code(self) -> int:
        return CLOSE_CODES.get(self.status, 1008)


def refused(error: InputError, where: object = None) -> Refusal:
    """Any ``InputError`` as a refusal (422 unless it is one already); ``where`` hides paths of the server."""
    if isinstance(error, Refusal):
        return error
    return Refusal(422, error.what, where=where or error.where, hint=error.hint)


def error_body(error: InputError) -> dict[str, Any]:
    where = None if error.where is None else str(error.where)
    return {"error": {"what": str(error.what), "where": where, "mend": error.hint}}


def error_response(error: InputError) -> JSONResponse:
    """The HTTP answer that tells of it."""
    refusal = refused(error)
    headers = {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status == 503:
        headers["Retry-After"] = "5"
    if refusal.status in (408, 413):
        # What is left of the body is not read, so nothing else can come over this connection.
        headers["Connection"] = "close"
    return JSONResponse(error_body(refusal), refusal.status, headers)
