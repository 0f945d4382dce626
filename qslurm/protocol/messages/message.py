"""The base class of messages, and replies to any request."""

from __future__ import annotations

from typing import Annotated

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A count or an id, within what SQLite and JSON can represent."""


class Message(msgspec.Struct, frozen=True, tag_field="message", tag=True, kw_only=True):
    """The base class of all messages."""


class Done(Message, frozen=True):
    """The request was carried out; there is nothing to return."""


class Refused(Message, frozen=True):
    """The request was refused. `kind` names the class of qslurm.errors."""

    kind: str
    reason: str
