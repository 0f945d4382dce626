"""Connects to C2's slurmrestd, and caches its API version by URL in a small file.

Without the file, or if it is broken or cannot be written, the version is negotiated again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from qslurm.c1.config.center_config import require_url
from qslurm.c1.config.settings import Config
from qslurm.system.atomic_file import write_atomically

if TYPE_CHECKING:
    from qslurm.slurm.rest import SlurmrestClient
    from qslurm.tokens.secret import Secret

_LARGEST = 64 * 1024


def connect(config: Config, token: Secret, *, user: str | None = None) -> SlurmrestClient:
    """A client for the configured C2; sends nothing yet. `user` overrides the configured user.

    ConfigError if C2's URL is not set.
    """
    from qslurm.slurm.rest import SlurmrestClient
    from qslurm.tokens.claims import inspect

    url = require_url(config)
    cache = VersionCache(cache_file())
    return SlurmrestClient(
        config.c2.endpoint(url, token, user or config.c2.user or inspect(token.reveal()).user),
        api_version=config.c2.api_version,
        known_version=cache.get(url),
        on_version=lambda version: cache.put(url, version),
    )


def cache_file(environ: Mapping[str, str] | None = None) -> Path:
    """The cache directory: under $XDG_CACHE_HOME, else ~/.cache."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if base.startswith("/") else Path(environ.get("HOME") or "/") / ".cache"
    return folder / "qslurm" / "versions.json"


class VersionCache:
    """A cache of API versions by URL. Never raises: unreadable or unwritable entries are skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, url: str) -> str | None:
        """The cached version of this URL, or None."""
        version = self._read().get(_key(url))
        return version if isinstance(version, str) else None

    def put(self, url: str, version: str) -> None:
        """Cache the version of this URL."""
        known = self._read()
        if known.get(_key(url)) == version:
            return
        text = json.dumps({**known, _key(url): version}, indent=1)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, text.encode(), mode=0o600)
        except OSError:
            return  # a full or read-only home must not stop a submission

    def _read(self) -> dict[str, object]:
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(_LARGEST))
        except (OSError, ValueError, RecursionError):
            return {}  # missing or invalid: it will be written again
        return document if isinstance(document, dict) else {}


def _key(url: str) -> str:
    """The URL's hash, so that the cache does not reveal the URL."""
    return hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
