"""Exchanges recorded with real slurmrestds: v0.0.38 on Slurm 22.05.8, v0.0.39 on 23.02.8, v0.0.40 to 42 on 24.11.5,
v0.0.43 to 45 on 26.05.5. `scripts/record` records them.
"""

from __future__ import annotations

import json
from typing import Any

from testbed.layout import CHECKOUT

RECORDED = CHECKOUT / "tests/recorded"
URL = "http://c2.example:6820"
TOKEN = "eyJhbGciOiJub25lIn0.c2VjcmV0LXNlY3JldA.c2lnbmF0dXJl"

Exchange = dict[str, Any]


def load(version: str, name: str) -> Exchange:
    return json.loads((RECORDED / version / f"{name}.json").read_text())


def body_of(exchange: Exchange) -> bytes:
    body = exchange["response"]["body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
