"""What operators' and administrators' commands print with --json is what docs/json.md says."""

from __future__ import annotations

import pytest

from qslurm.c1.connection.agent_messages import AgentStatus, ReleaserState, TokenState
from qslurm.c1.connection.center_token import RenewalOutcome
from qslurm.c2.gate.partitions import PartitionRow
from qslurm.c2.scheduling.reservations import Reservation
from qslurm.c2.tokens.issue import issue_token
from qslurm.cli.app import run
from qslurm.protocol.messages import BackendStatus, HoldStatus, Reserved, Status, TaskStatus, WaitingStatus
from qslurm.runtimes.classical.warm.warm_status import WarmStatus
from qslurm.tokens.claims import Claims
from tests.unit.cli import json_documents as documents
from tests.unit.cli.json_documents import check

QX = BackendStatus(
    name="qx",
    state="idle",
    reason="",
    since=1.0,
    qubits=26,
    max_shots=1000,
    default_shots=100,
    runtimes=1,
    queued=1,
    executing=0,
)
STATUS = Status(
    version="1",
    pid=7,
    started=1.0,
    ready=True,
    reason="",
    backends=[QX],
    tasks=[
        TaskStatus(
            job_id=12,
            restart=0,
            center="a",
            backend="qx",
            kind="hybrid",
            state="running",
            since=1.0,
            executions=3,
        )
    ],
    reservations=[Reservation(id=3, backend="qx", begins=1.0, ends=2.0, center="a", reason="a run")],
    holds=[HoldStatus(backend="qx", job_id=12, center="a", by="lane", since=1.0)],
    queue=[
        WaitingStatus(
            backend="qx",
            position=1,
            job_id=12,
            restart=0,
            center="a",
            seq=4,
            shots=10,
            since=1.0,
            reason="others first",
        )
    ],
    queue_left={"qx": 2},
)
ROW = PartitionRow(
    partition="p_qx",
    backend="qx",
    wish="enabled",
    by="root",
    since=1.0,
    backend_state="idle",
    slurm_state="UP",
    wanted_state="UP",
    running=1,
    queued=2,
    reason="",
)
CLAIMS = Claims(user="center_a", issued=1, expires=2, key_id="a", algorithm="RS256")
RENEWED = RenewalOutcome(renewed=True, claims=CLAIMS, renew_at=1.5, until=9, ends_soon=False)
AGENT = AgentStatus(TokenState("center_a", 2, 1.5), waiting=1, open=2, releaser=ReleaserState("c2", 0.5))
WARM = WarmStatus(ready=1, wanted=2, given=3, confined=True, pid=9)

COMMANDS = {
    "partition status": documents.PartitionStates,
    "partition enable p_qx": documents.PartitionState,
    "partition drain p_qx": documents.PartitionState,
    "partition close p_qx": documents.PartitionState,
    "backend list": documents.DispatcherBackends,
    "backend reservations": documents.Reservations,
    "backend reserve qx --center a --duration 1h": documents.Reserved,
    "dispatcher status": documents.DispatcherStatus,
    "token keys": documents.Keys,
    "token renewal --center snellius": documents.RenewalTerms,
    "token renew": documents.RenewedToken,
    "token check --offline": documents.TokenCheck,
    "agent status": documents.AgentStatus,
}


@pytest.fixture
def platform(key_pairs, tmp_path, monkeypatch):
    """A C2 with one center, whose services say what stands above, and that center's configuration."""
    tokens = key_pairs("snellius")
    (tmp_path / "c2.toml").write_text(f'[tokens]\nkeys = "{tokens.keys}"\njwks = "{tokens.jwks}"\n')
    issued = issue_token(tokens, "snellius", "1h", user_prefix="center_", masters=("slurm",))
    (tmp_path / "token").write_text(issued.token.reveal())
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "config.toml").write_text(
        f'[c2]\nurl = "http://127.0.0.1:9"\ntoken_file = "{tmp_path}/token"\n'
        '[agent]\nsocket = "/nowhere/agent.sock"\n'
    )
    monkeypatch.setenv("QSLURM_C2_CONFIG", str(tmp_path / "c2.toml"))
    monkeypatch.setenv("QSLURM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("SLURM_JWT", raising=False)

    def ask(message, config_file):
        return Reserved(reservation=3) if type(message).__name__ == "Reserve" else STATUS

    monkeypatch.setattr("qslurm.cli.dispatcher_calls.ask", ask)
    monkeypatch.setattr("qslurm.c2.gate.partitions.partition_status", lambda config: [ROW])
    monkeypatch.setattr("qslurm.c2.gate.partitions.set_desired_state", lambda *_, why: ROW)
    monkeypatch.setattr("qslurm.runtimes.classical.warm.warm_status.query_warm_status", lambda socket: WARM)
    monkeypatch.setattr("qslurm.c1.connection.center_token.renew_file", lambda config, at_once: RENEWED)
    monkeypatch.setattr(
        "qslurm.c1.connection.agent_connection.AgentConnection.status", lambda connection: AGENT
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_a_document_as_documented(command, platform, capsys):
    assert run([*command.split(), "--json"]) == 0
    check(capsys.readouterr().out, COMMANDS[command])
