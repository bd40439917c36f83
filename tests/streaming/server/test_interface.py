"""Whatever fits the OpenAPI description, or doesn't, gets an answer that the description promises."""

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tal_core.streaming.server.application import make_application
from tal_core.streaming.server.limits import Limits
from tal_core.streaming.server.service import Service
from tests.streaming.server_tools import served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    response_schema_conformance,
    unsupported_method,
]
application = make_application(Service({"toy": served()}, Limits(body_bytes=2**16)))
interface = schemathesis.openapi.from_asgi("/openapi.json", application)


@interface.parametrize()
@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case):
    case.call_and_validate(checks=CHECKS)
