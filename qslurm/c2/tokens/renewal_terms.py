"""Until when a center may renew its token, as set by operators: a file beside the center's key on C2."""

from __future__ import annotations

from pathlib import Path

import msgspec

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.errors import QslurmError
from qslurm.system.atomic_file import write_atomically
from qslurm.tokens.lifetime import parse_lifetime

_LARGEST = 4096


class RenewalTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Renewals end at `until` (Unix seconds; 0: none are allowed), and so do renewed tokens.

    A renewed token lives for `lifetime` ("": the configuration's).
    """

    until: int = 0
    lifetime: str = ""

    def seconds(self, config: TokensConfig) -> int:
        """A renewed token's lifetime, before it is cut at `until`."""
        longest = parse_lifetime(config.max_lifetime)
        return min(parse_lifetime(self.lifetime or config.renewed_lifetime), longest)


def read_terms(config: TokensConfig, center: str) -> RenewalTerms:
    """A center's terms; without a file no renewals are allowed. QslurmError if the file is damaged."""
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
    """Set a center's terms, with effect at once. The center must have a key."""
    folder = Path(config.keys).stat()
    write_atomically(
        _path(config, center),
        msgspec.json.encode(terms) + b"\n",
        mode=0o600,
        owner=folder.st_uid,
        group=folder.st_gid,
    )


NEVER = "never"
"""In place of a time, for a center that may not renew."""


def until(text: str, now: float) -> int:
    """When renewals allowed for `text` from `now` end: `366d`, or `never` (0). InvalidInputError if invalid."""
    return 0 if text.strip() == NEVER else int(now) + parse_lifetime(text)


def forget_terms(config: TokensConfig, center: str) -> None:
    """Remove a center's terms."""
    _path(config, center).unlink(missing_ok=True)


def _path(config: TokensConfig, center: str) -> Path:
    return Path(config.keys) / f"{center}.renewal"
