"""Until when a center may renew its token: the operator's word, beside the center's key on C2."""

from __future__ import annotations

from pathlib import Path

import msgspec

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.errors import QslurmError
from qslurm.system.atomic_file import write_atomically
from qslurm.tokens.lifetime import parse_lifetime

_LARGEST = 4096


class RenewalTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`until` (Unix seconds) ends a center's renewals, and no renewed token outlives it; 0: it has none.

    A renewed token lives for `lifetime`, or as the configuration says if it is "".
    """

    until: int = 0
    lifetime: str = ""

    def seconds(self, config: TokensConfig) -> int:
        """How long a renewed token lives, unless it would outlive `until`."""
        longest = parse_lifetime(config.max_lifetime)
        return min(parse_lifetime(self.lifetime or config.renewed_lifetime), longest)


def read_terms(config: TokensConfig, center: str) -> RenewalTerms:
    """A center's terms, which allow nothing if nobody has said any; QslurmError if they are damaged."""
    path = _path(config, center)
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_LARGEST), type=RenewalTerms)
    except FileNotFoundError:
        return RenewalTerms()
    except (OSError, msgspec.DecodeError) as error:
        raise QslurmError(
            f"Cannot read the renewal terms of {center} in {path}: {error}.",
            hint=f"Set them again: `qslurm token renewal --center {center} --for 366d`.",
        ) from error


def write_terms(config: TokensConfig, center: str, terms: RenewalTerms) -> None:
    """Put a center's terms into force, at once. The center must have a key, which makes the folder."""
    folder = Path(config.keys).stat()
    write_atomically(
        _path(config, center),
        msgspec.json.encode(terms) + b"\n",
        mode=0o600,
        owner=folder.st_uid,
        group=folder.st_gid,
    )


NEVER = "never"
"""In place of a time, for a center that shall not renew."""


def until(text: str, now: float) -> int:
    """When renewals end that are allowed for `text` from now on: `366d`, or `never` (0); else an InvalidInputError."""
    return 0 if text.strip() == NEVER else int(now) + parse_lifetime(text)


def forget_terms(config: TokensConfig, center: str) -> None:
    """The center has no key any more."""
    _path(config, center).unlink(missing_ok=True)


def _path(config: TokensConfig, center: str) -> Path:
    return Path(config.keys) / f"{center}.renewal"
