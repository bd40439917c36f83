"""Every method that can be trained. A new one is a file beside this and a line below."""

from __future__ import annotations

from tal_core.models import baseline, miniroad
from tal_core.models.bmn import bmn
from tal_core.models.bsn import bsn
from tal_core.models.method import Method
from tal_core.models.pyramid import actionformer, temporalmaxer, tridet
from tal_core.models.ssn import ssn
from tal_core.types import InputError

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        baseline.METHOD,
        ssn.METHOD,
        bsn.METHOD,
        bmn.METHOD,
        actionformer.METHOD,
        temporalmaxer.METHOD,
        tridet.METHOD,
        miniroad.METHOD,
    )
}  # fmt: skip


def get_method(name: str) -> Method:
    """The method called ``name``.

    Raises:
        InputError: if there is none, listing those there are.
    """
    if name not in METHODS:
        raise InputError(f"there is no method {name!r}", hint=f"Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]
