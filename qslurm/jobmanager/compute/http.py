"""Requests of the Compute API as they are read, lists as they are given in pages, and its login, which is none."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from qslurm.jobmanager.compute.bodies import Document
from qslurm.jobmanager.compute.problems import OddRequestError, respond
from qslurm.jobmanager.compute.runner import Caller

T = TypeVar("T", bound=msgspec.Struct)

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

    def read(self, kind: type[T]) -> T:
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


def page(ask: Ask, items: list[Document]) -> Document:
    """The page that was asked for, of those that match the query's fields."""
    for name, text in ask.query.items():
        if items and name in items[0]:
            items = [one for one in items if str(one[name]).lower() == text.lower()]
    order = ask.query.get("sort_by", "").lstrip("-")
    if items and order in items[0]:
        items.sort(key=lambda one: (one[order] is None, one[order]), reverse=ask.query["sort_by"][0] == "-")
    size = max(1, ask.number("size", _PAGE, _LONGEST_PAGE))
    number = max(1, ask.number("page", 1, 2**40))
    shown = items[(number - 1) * size : number * size]
    pages = max(1, -(-len(items) // size))
    return {"items": shown, "total": len(items), "page": number, "size": size, "pages": pages}


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
