"""Runs the agent until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from qslurm.c1.agent.agent_server import AgentServer
from qslurm.c1.agent.change_log import ENDINGS, ChangeLog
from qslurm.c1.agent.job_tracker import JobTracker
from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.reconcile import Reconciler
from qslurm.c1.agent.releaser_requests import ReleaserRequests
from qslurm.c1.agent.request_handler import RequestHandler
from qslurm.c1.agent.sender import SenderPool
from qslurm.c1.agent.token_renewer import TokenRenewer
from qslurm.c1.agent.wait_bindings import WaitBindings
from qslurm.c1.config.center_config import load_token, require_url
from qslurm.c1.config.settings import Config, section_of
from qslurm.c1.connection.agent_address import parse_address
from qslurm.c1.connection.agent_messages import Submission
from qslurm.c1.connection.center_connection import CenterConnection
from qslurm.errors import ConfigError, QslurmError, UnreachableError
from qslurm.system.event_log import EventLog
from qslurm.system.notifier import Notifier
from qslurm.tokens.secret import HeldToken
from qslurm.wire.credentials import Munge
from qslurm.wire.unix_socket import listen_unix

log = EventLog(__name__)

BACKLOG = 1024
"""Backlog of each listening socket."""


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; current requests finish first.

    ConfigError for a missing setting, TokenError for an unusable token, UnreachableError if the socket or the address
    is in use.
    """
    if not config.agent.socket:
        raise ConfigError(
            "No socket configured for the agent.",
            hint=f"Set socket under [{section_of(config.platform, 'agent')}] in the configuration.",
        )
    require_url(config)
    # With an expired token the agent still accepts submissions and loads the next token; and this clock may be wrong.
    token = load_token(config, even_expired=True)
    asyncio.run(_serve(config, HeldToken(token.reveal())))


async def _serve(config: Config, token: HeldToken) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    notifier, outbox = Notifier(loop), Outbox(Path(config.agent.state))

    def connect() -> CenterConnection:
        return CenterConnection(config, token)

    renewer = TokenRenewer.of(config, token)
    bindings = WaitBindings(Path(config.agent.state))
    bindings.forget_ended()

    change_log = ChangeLog(outbox.owners, notifier.notify)
    reconciler = Reconciler(outbox, lambda: sender.wake())  # noqa: PLW0108 -- the sender is made below

    def answered(key: str, outcome: Submission | QslurmError) -> None:
        tracker.wake()
        notifier.notify(("submission", key), value=outcome)
        notifier.notify(ENDINGS)

    tracker = JobTracker(outbox, connect, change_log.changed, reconciler)
    sender = SenderPool(outbox, connect, answered)
    releaser_requests = ReleaserRequests(config, outbox, bindings, tracker)
    handler = RequestHandler(
        config.agent,
        outbox,
        connect,
        sender,
        tracker,
        reconciler=reconciler,
        token=renewer.state,
        releaser_requests=releaser_requests,
        change_log=change_log,
    )
    server = AgentServer(handler, notifier, Munge(config.agent.munge_socket))
    path = Path(config.agent.socket)
    listening = listen_unix(
        path, service="agent", setting="the agent's socket in the configuration", backlog=BACKLOG
    )
    listeners = [await asyncio.start_unix_server(server.serve_local, sock=listening)]
    if config.agent.address:
        listeners.append(await _listen_tcp(server, config.agent.address))
    for thread in (renewer, tracker, sender):
        thread.start()
    log.info("listening", socket=str(path), address=config.agent.address)
    await stopping.wait()
    log.info("stopping")
    for listener in listeners:
        listener.close()
    path.unlink(missing_ok=True)
    for thread in (sender, tracker, renewer):
        await asyncio.to_thread(thread.stop)
    server.close()
    bindings.close()
    outbox.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def _listen_tcp(server: AgentServer, address: str) -> asyncio.Server:
    host, port = parse_address(address)
    try:
        return await asyncio.start_server(server.serve_remote, host, port, backlog=BACKLOG)
    except OSError as error:
        raise UnreachableError(f"Cannot listen on {address}: {error.strerror}.") from error
