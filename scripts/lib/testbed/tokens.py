"""The centers' keys on C2, and the token of center snellius on C1."""

from __future__ import annotations

import base64
import json
import time

from testbed import users
from testbed.command import checked, clean, run
from testbed.files import CENTER
from testbed.layout import Layout, write

LIFETIME = "30d"
RENEW_BEFORE_S = 7 * 86400.0


def ensure(layout: Layout) -> None:
    """Create a key for each center, and on C1 a token that is valid for another week, for researchers and for the
    agent.
    """
    for center in users.CENTERS:
        key = layout.keys / f"{center}.pem"
        if not key.exists() or key.owner() != users.TOKENS or center not in _published(layout):
            _qslurm(layout, "token", "key", "--center", center)
    if _seconds_left(layout) < RENEW_BEFORE_S:
        token = issue(layout, CENTER)
        write(layout.token, token, mode=0o640, group=users.RESEARCH_GROUP)
        write(layout.agent_token, token, mode=0o600, user=users.AGENT, group=users.AGENT)


def issue(layout: Layout, center: str, lifetime: str = LIFETIME) -> str:
    """A new token of a center, issued as C2's operator."""
    return _qslurm(layout, "token", "issue", "--center", center, "--lifetime", lifetime).strip() + "\n"


def _qslurm(layout: Layout, *words: str) -> str:
    environment = clean(QSLURM_C2_CONFIG=str(layout.c2_qslurm))
    return checked(run([layout.python, "-I", "-m", "qslurm", *words], environment=environment))


def _published(layout: Layout) -> set[str]:
    if not layout.jwks.exists():
        return set()
    return {key["kid"] for key in json.loads(layout.jwks.read_text())["keys"]}


def _seconds_left(layout: Layout) -> float:
    if not (layout.token.exists() and layout.agent_token.exists()):
        return 0.0
    claims = layout.token.read_text().split(".")[1]
    padded = claims + "=" * (-len(claims) % 4)
    return float(json.loads(base64.urlsafe_b64decode(padded))["exp"]) - time.time()
