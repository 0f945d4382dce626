"""Runs the agent until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from qslurm.c1.agent.change_log import ENDINGS, ChangeLog
from qslurm.c1.agent.endings import Dependants
from qslurm.c1.agent.job_tracker import JobTracker
from qslurm.c1.agent.outbox import Outbox
from qslurm.c1.agent.reconcile import Reconciler
from qslurm.c1.agent.request_handler import RequestHandler
from qslurm.c1.agent.sender_threads import SenderThreads
from qslurm.c1.agent.server import Server
from qslurm.c1.agent.token_renewer import TokenRenewer
from qslurm.c1.agent.wait_bindings import WaitBindings
from qslurm.c1.config.center_config import Config, load_token, require_url
from qslurm.c1.config.settings import section_of
from qslurm.c1.connection.agent_address import parse_address
from qslurm.c1.connection.center_connection import CenterConnection
from qslurm.errors import ConfigError, UnreachableError
from qslurm.system.event_log import EventLog
from qslurm.system.notifier import Notifier
from qslurm.tokens.secret import HeldToken
from qslurm.wire.credentials import Munge
from qslurm.wire.unix_socket import listen_unix

log = EventLog(__name__)

BACKLOG = 1024
"""Backlog of connections."""


def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; current requests finish first.

    ConfigError when something isn't said, TokenError for a token that can't be good, UnreachableError if the socket
    or the address is taken.
    """
    if not config.agent.socket:
        raise ConfigError(
            "No socket configured for the agent.",
            hint=f"Set socket under [{section_of(config.platform, 'agent')}] in the configuration.",
        )
    require_url(config)
    # With an expired one it takes submissions all the same, says so, and takes up the next; and our clock may be wrong.
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
    bonds = WaitBindings(Path(config.agent.state))
    bonds.forget_ended()

    change_log = ChangeLog(outbox.owners, notifier.ring)
    lost = Reconciler(outbox, lambda: sender.look())  # noqa: PLW0108 -- the sender is made below

    def sent(key: str) -> None:
        follower.look()
        notifier.ring(("submission", key), ENDINGS)

    follower = JobTracker(outbox, connect, change_log.changed, lost)
    sender = SenderThreads(outbox, connect, sent)
    dependants = Dependants(config, outbox, bonds, follower)
    desk = RequestHandler(
        config.agent,
        outbox,
        connect,
        sender,
        follower,
        lost=lost,
        token=renewer.state,
        dependants=dependants,
        news=change_log,
    )
    server = Server(desk, notifier, Munge(config.agent.munge_socket))
    path = Path(config.agent.socket)
    listening = listen_unix(
        path, service="agent", setting="the agent's socket in the configuration", backlog=BACKLOG
    )
    listeners = [await asyncio.start_unix_server(server.by_socket, sock=listening)]
    if config.agent.address:
        listeners.append(await _network(server, config.agent.address))
    for thread in (renewer, follower, sender):
        thread.start()
    log.info("listening", socket=str(path), address=config.agent.address)
    await stopping.wait()
    log.info("stopping")
    for listener in listeners:
        listener.close()
    path.unlink(missing_ok=True)
    for thread in (sender, follower, renewer):
        await asyncio.to_thread(thread.stop)
    server.close()
    bonds.close()
    outbox.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def _network(server: Server, address: str) -> asyncio.Server:
    host, port = parse_address(address)
    try:
        return await asyncio.start_server(server.by_network, host, port, backlog=BACKLOG)
    except OSError as error:
        raise UnreachableError(f"Cannot listen on {address}: {error.strerror}.") from error
