"""Requests of the Compute API as they are read, lists as they are given in pages, and its login, which is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qslurm.jobmanager.compute.bodies import Document
from qslurm.jobmanager.compute.problems import OddRequestError, respond
from qslurm.jobmanager.compute.runner import Caller

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_PAGE, _LONGEST_PAGE = 50, 100


class Ask:
    """One request, read: who asks, which record, what for, and what was sent."""

    def __init__(self, caller: Caller, request: Request, body: bytes) -> None:
        self.caller = caller
        self.center = caller.center
        self.query = dict(request.query_params)
        self._path = request.path_params
        self._body = body

    @property
    def id(self) -> int:
        """The number in the path."""
        return self._number(str(self._path["id"]), "id")

    def number(self, name: str, default: int, most: int) -> int:
        """A number of the query."""
        return min(self._number(self.query.get(name, str(default)), name), most)

    def read(self, kind: type[S]) -> S:
        """The body; OddRequestError for one that is no such document."""
        try:
            return msgspec.json.decode(self._body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise OddRequestError(f"{error}.") from error

    @staticmethod
    def _number(text: str, name: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise OddRequestError(f"{name} must be a number.")
        return int(text)


def page(ask: Ask, items: Sequence[T], shown: Callable[[T], Document]) -> Document:
    """The page that was asked for, of those that match the query's fields. Items come by their numbers.

    A list that is only gone through, page by page, is not shown but for the page: each item may cost a question.
    """
    order = ask.query.get("sort_by", "")
    if set(ask.query) <= {"page", "size", "sort_by"} and order in {"", "id", "-id"}:
        ordered = items[::-1] if order == "-id" else items
        return _page(ask, len(items), lambda part: [shown(one) for one in ordered[part]])
    found = [shown(one) for one in items]
    for name, text in ask.query.items():
        if found and name in found[0]:
            found = [one for one in found if str(one[name]).lower() == text.lower()]
    field = order.lstrip("-")
    if found and field in found[0]:
        found.sort(key=lambda one: (one[field] is None, one[field]), reverse=order[0] == "-")
    return _page(ask, len(found), lambda part: found[part])


def _page(ask: Ask, total: int, cut: Callable[[slice], list[Document]]) -> Document:
    size = max(1, ask.number("size", _PAGE, _LONGEST_PAGE))
    number = max(1, ask.number("page", 1, 2**40))
    pages = max(1, -(-total // size))
    shown = cut(slice((number - 1) * size, number * size))
    return {"items": shown, "total": total, "page": number, "size": size, "pages": pages}


async def auth_config(request: Request) -> Response:
    """How a client would log in."""
    base = str(request.url).rsplit("/", 1)[0]
    well_known = f"{base}/oidc/.well-known/openid-configuration"
    return respond({"client_id": "qslurm", "audience": "qslurm", "well_known_endpoint": well_known}, 200)


async def well_known(request: Request) -> Response:
    """Where a client would log in; the official one asks whenever it starts."""
    base = str(request.url).split("/.well-known/", 1)[0]
    names = {
        "token_endpoint": "token",
        "device_authorization_endpoint": "device",
        "revocation_endpoint": "revoke",
    }
    return respond({name: f"{base}/{path}" for name, path in names.items()}, 200)


async def no_login(request: Request) -> Response:
    """What a client is told that tries to log in, or to renew a token."""
    del request
    words = "There is no login here: C2's operators give each center its token."
    return respond({"error": "access_denied", "error_description": words}, 400)
