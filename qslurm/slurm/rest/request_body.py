"""Checks tokens and encodes payloads before they are sent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from qslurm.errors import InvalidInputError, TokenError
from qslurm.tokens.secret import Secret

_TOKEN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){2}")


def check_token(token: Secret) -> None:
    """TokenError, which does not show it, for a token that is no JWT."""
    if not _TOKEN.fullmatch(token.reveal()):
        raise TokenError(
            "The token is not a JSON Web Token.",
            hint="Install the token again, as C2's operators issued it.",
        )


def encode(payload: Mapping[str, Any]) -> bytes:
    """Encode a payload; InvalidInputError for what JSON or UTF-8 cannot represent."""
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidInputError(f"Cannot encode the payload as JSON: {error}.") from error
