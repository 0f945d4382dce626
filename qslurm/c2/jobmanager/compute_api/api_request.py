"""Requests of the Compute API as they are read, lists as they are given in pages, and its login, which is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qslurm.c2.jobmanager.compute_api.bodies import Document
from qslurm.c2.jobmanager.compute_api.filters import PAGING, number_of
from qslurm.c2.jobmanager.compute_api.problems import InvalidRequestError, respond
from qslurm.c2.jobmanager.compute_api.runner import ApiCaller

S = TypeVar("S", bound=msgspec.Struct)

_PAGE, _LONGEST_PAGE = 50, 100

MOST_BYTES = 16 * 1024 * 1024
"""Of what is in a page; the one item that is larger is still in it."""


class ApiRequest:
    """One request, read: who asks, which record, what for, and what was sent."""

    def __init__(self, caller: ApiCaller, request: Request, body: bytes, url: str) -> None:
        self.caller = caller
        self.center = caller.center
        self.query = dict(request.query_params)
        self.url = url
        """Where clients reach this API, as its operator has configured it."""
        self._path = request.path_params
        self._body = body

    @property
    def id(self) -> int:
        """The number in the path."""
        return number_of("id", str(self._path["id"]))

    def number(self, name: str, default: int, most: int) -> int:
        """A number of the query."""
        return min(number_of(name, self.query.get(name, str(default))), most)

    def read(self, kind: type[S]) -> S:
        """The body; InvalidRequestError for one that is no such document."""
        try:
            return msgspec.json.decode(self._body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(f"{error}.") from error


class Cut(NamedTuple):
    """The page that was asked for, as far as an answer has room for so much."""

    number: int
    size: int
    total: int

    @property
    def first(self) -> int:
        """How many come before it."""
        return (self.number - 1) * self.size

    def document(self, items: list[Document]) -> Document:
        """The page with its items."""
        pages = max(1, -(-self.total // self.size))
        return {"items": items, "total": self.total, "page": self.number, "size": self.size, "pages": pages}


def cut(ask: ApiRequest, total: int, largest: int = 0) -> Cut:
    """Which page is asked for, of `total` items of which the largest has so many bytes.

    A page is smaller than asked for where the items are large: it says its size, and clients go by that.
    """
    size = max(1, ask.number("size", _PAGE, _LONGEST_PAGE))
    room = max(1, MOST_BYTES // max(1, largest))
    return Cut(max(1, ask.number("page", 1, 2**40)), min(size, room), total)


def page(ask: ApiRequest, items: Sequence[Document]) -> Document:
    """The page that was asked for of a short list, of those that match the query's fields."""
    found = [
        one
        for one in items
        if all(
            str(one[name]).lower() == text.lower() for name, text in ask.query.items() if name not in PAGING
        )
    ]
    order = ask.query.get("sort_by", "")
    if order.removeprefix("-") not in {"", "id", "name"}:
        raise InvalidRequestError(f"Cannot sort by {order[:40]!r}.")
    if order:
        found.sort(key=lambda one: one.get(order.removeprefix("-"), 0), reverse=order.startswith("-"))
    which = cut(ask, len(found))
    return which.document(found[which.first : which.first + which.size])


def auth_config(ask: ApiRequest) -> Document:
    """How a client would log in."""
    known = f"{ask.url}/oidc/.well-known/openid-configuration"
    return {"client_id": "qslurm", "audience": "qslurm", "well_known_endpoint": known}


def well_known(ask: ApiRequest) -> Document:
    """Where a client would log in; the official one asks whenever it starts."""
    names = {
        "token_endpoint": "token",
        "device_authorization_endpoint": "device",
        "revocation_endpoint": "revoke",
    }
    return {name: f"{ask.url}/oidc/{path}" for name, path in names.items()}


async def no_login(request: Request) -> Response:
    """What a client is told that tries to log in, or to renew a token."""
    del request
    words = "Login is not supported. Use the token that C2's operators issued to your center."
    return respond({"error": "access_denied", "error_description": words}, 400)
