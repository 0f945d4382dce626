"""A string that logs, errors and debuggers do not show."""

from __future__ import annotations

from typing import NoReturn

HIDDEN = "<hidden>"


class Secret:
    """A token or key. Only `reveal()` returns it; printing, formatting and pickling do not."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret, for the code that sends it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        import hmac  # most commands never compare, and its hashes take time to load

        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


class HeldToken(Secret):
    """A center's token that can be replaced while connections use it."""

    __slots__ = ()

    def replace(self, token: Secret) -> None:
        """Replace the token."""
        self._text = token.reveal()
