"""Parses the agent's TCP address; a module of its own because every command on a compute node imports it."""

from __future__ import annotations

from qslurm.errors import ConfigError


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `head1:8043` or `[::1]:8043`; ConfigError otherwise."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"Invalid address {text!r}.", hint="Use HOST:PORT, for example head1:8043.")
    return host, int(port)
