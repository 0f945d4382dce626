"""What all messages are, and the answers that anybody may get."""

from __future__ import annotations

from typing import Annotated

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A count or an id; the bound keeps it within what SQLite and JSON can carry."""


class Message(msgspec.Struct, frozen=True, tag_field="message", tag=True, kw_only=True):
    """The root of all messages."""


class Done(Message, frozen=True):
    """Taken note of."""


class Refused(Message, frozen=True):
    """The request can't be served; `kind` is the `kind` of the error class it stands for."""

    kind: str
    reason: str
