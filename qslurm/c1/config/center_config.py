"""Loads a center's configuration from flags, the environment and files, and reads its token.

Flags take precedence over the environment, the user's file and the center's file, in this order. `$QSLURM_CONFIG` names
one file to read instead of both. `platforms.py` selects one of several platforms.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from qslurm.c1.config.platforms import PLATFORM_VARIABLE, SYSTEM_FILE, TOKEN_VARIABLE, load_platforms
from qslurm.c1.config.settings import (
    C2Settings,
    Config,
    expanded,
)
from qslurm.errors import ConfigError, TokenError
from qslurm.tokens.secret import Secret


def load_config(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Config:
    """Load one platform's settings, from flags (by a setting's name), the environment and files.

    ConfigError for an unreadable file, an unknown setting (with the nearest known one), a value of the wrong type, or
    an unknown platform. Required settings are checked when they are used.
    """
    return load_platforms(flags, environ=environ, system_file=system_file).config()


def load_token(config: Config, *, even_expired: bool = False) -> Secret:
    """Read the center's token from the environment or its file; TokenError if it is missing or invalid.

    TokenError also if others can read its file, or if it has expired by this host's clock. ConfigError if it would be
    sent unencrypted.
    """
    from qslurm.tokens.claims import inspect
    from qslurm.tokens.token_check import refuse_expired, refuse_other_user
    from qslurm.tokens.token_file import FileToken, clean

    require_tls(config.c2)
    if config.token is not None:
        token = clean(config.token.reveal())
    elif config.c2.token_file:
        token = FileToken(expanded(config.c2.token_file))
    else:
        raise TokenError(
            f"No token for {_c2(config)}.",
            hint=f"Set QSLURM_TOKEN_FILE, or token_file under [{config.section}] in the"
            f" configuration, or put the token into {TOKEN_VARIABLE}.{_environment_hint(config)}",
        )
    claims = inspect(token.reveal(), user=config.c2.user)
    refuse_other_user(claims, config.c2.user)
    if not even_expired:
        refuse_expired(claims, time.time())
    return token


def require_tls(c2: C2Settings) -> None:
    """ConfigError if the token would be sent without TLS and `tls` does not allow that."""
    if c2.tls == "optional":
        return
    for url in (c2.url, c2.results_url):
        if _is_plain(url):
            raise ConfigError(
                f"{url} is not https: the token would be sent unencrypted.",
                hint='Use C2\'s https:// URL. On a private test network, tls = "optional" or QSLURM_TLS=optional'
                " allows http.",
            )


def _is_plain(url: str) -> bool:
    """Whether the URL uses http to another host. Malformed URLs are refused when used."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return parts.scheme == "http" and not local


def require_url(config: Config) -> str:
    """C2's URL; ConfigError if it is not set."""
    if not config.c2.url:
        raise ConfigError(
            f"No URL given for {_c2(config)}.",
            hint=f"Set QSLURM_C2_URL, or url under [{config.section}] in the configuration, or use --url."
            f"{_environment_hint(config)}",
        )
    return config.c2.url


def require_results_url(config: Config) -> str:
    """The URL of C2's job manager; ConfigError if it is not set."""
    if not config.c2.results_url:
        raise ConfigError(
            "No URL given for C2's job manager, which serves results and logs.",
            hint=f"Set results_url under [{config.section}] in the configuration, QSLURM_RESULTS_URL,"
            " or --results-url.",
        )
    return config.c2.results_url


def _c2(config: Config) -> str:
    return "C2" if len(config.platforms) == 1 else f"platform {config.platform}"


def _environment_hint(config: Config) -> str:
    """A hint that environment variables apply to another platform."""
    if not config.prefix:
        return ""
    return f" These variables apply to this platform only with {PLATFORM_VARIABLE}={config.platform}."
