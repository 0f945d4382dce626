"""The Compute API's requests, paged lists, and login endpoints, which refuse."""

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
"""Maximum bytes of a page's items, except for a single larger item."""


class ApiRequest:
    """A request: the caller, path, query and body."""

    def __init__(self, caller: ApiCaller, request: Request, body: bytes, url: str) -> None:
        self.caller = caller
        self.center = caller.center
        self.query = dict(request.query_params)
        self.url = url
        """Where clients reach this API, from the configuration."""
        self._path = request.path_params
        self._body = body

    @property
    def id(self) -> int:
        """The id in the path."""
        return number_of("id", str(self._path["id"]))

    def number(self, name: str, default: int, most: int) -> int:
        """A number in the query."""
        return min(number_of(name, self.query.get(name, str(default))), most)

    def read(self, kind: type[S]) -> S:
        """The body; InvalidRequestError if it is not a valid document of this kind."""
        try:
            return msgspec.json.decode(self._body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(f"{error}.") from error


class PageRange(NamedTuple):
    """The page to return: its number from 1, its size, and the number of items in all pages."""

    number: int
    size: int
    total: int

    @property
    def first(self) -> int:
        """The number of items before it."""
        return (self.number - 1) * self.size

    def document(self, items: list[Document]) -> Document:
        """The page's document with these items."""
        pages = max(1, -(-self.total // self.size))
        return {"items": items, "total": self.total, "page": self.number, "size": self.size, "pages": pages}


def page_range(request: ApiRequest, total: int, largest: int = 0) -> PageRange:
    """The requested page of `total` items, of which the largest has `largest` bytes.

    A page of large items is smaller than requested; clients use the size in the response.
    """
    size = max(1, request.number("size", _PAGE, _LONGEST_PAGE))
    room = max(1, MOST_BYTES // max(1, largest))
    return PageRange(max(1, request.number("page", 1, 2**40)), min(size, room), total)


def page(request: ApiRequest, items: Sequence[Document]) -> Document:
    """The requested page of a short list, filtered and sorted by the query."""
    found = [
        one
        for one in items
        if all(
            str(one[name]).lower() == text.lower()
            for name, text in request.query.items()
            if name not in PAGING
        )
    ]
    order = request.query.get("sort_by", "")
    if order.removeprefix("-") not in {"", "id", "name"}:
        raise InvalidRequestError(f"Cannot sort by {order[:40]!r}.")
    if order:
        found.sort(key=lambda one: one.get(order.removeprefix("-"), 0), reverse=order.startswith("-"))
    part = page_range(request, len(found))
    return part.document(found[part.first : part.first + part.size])


def auth_config(request: ApiRequest) -> Document:
    """The authentication configuration."""
    known = f"{request.url}/oidc/.well-known/openid-configuration"
    return {"client_id": "qslurm", "audience": "qslurm", "well_known_endpoint": known}


def well_known(request: ApiRequest) -> Document:
    """The OpenID configuration, which the official client requests at every start."""
    names = {
        "token_endpoint": "token",
        "device_authorization_endpoint": "device",
        "revocation_endpoint": "revoke",
    }
    return {name: f"{request.url}/oidc/{path}" for name, path in names.items()}


async def no_login(request: Request) -> Response:
    """Refuse a login or a token renewal."""
    del request
    words = "Login is not supported. Use the token that C2's operators issued to your center."
    return respond({"error": "access_denied", "error_description": words}, 400)
