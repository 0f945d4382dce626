"""The daemons of both clusters: how each is run, what it needs, and when it is ready."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from qslurm.c2.gate.heartbeat import FILE as HEARTBEAT
from testbed import database, slurm, users
from testbed.command import checked, clean, run
from testbed.daemon import Daemon
from testbed.layout import Layout
from testbed.ports import listening, listening_at
from testbed.render import Variables
from testbed.saved_state import SavedState


def all_daemons(layout: Layout, saved: SavedState, variables: Variables) -> dict[str, Daemon]:
    """All daemons by name, in the order of `status`; `after` gives the order of their starts."""
    table = [
        _munged(layout, "c1"),
        _munged(layout, "c2"),
        _mariadbd(layout, saved),
        _slurmdbd(layout, saved, variables),
        _slurmctld(layout, saved, "c1", after=("munged-c1",)),
        _slurmctld(layout, saved, "c2", after=("munged-c2", "slurmdbd")),
        _slurmd(layout, variables, "c1"),
        _slurmd(layout, variables, "c2"),
        _slurmrestd(layout, saved),
        *_services(layout, saved, variables),
    ]
    return {daemon.name: daemon for daemon in table}


def _port(saved: SavedState, name: str) -> Callable[[], bool]:
    port = saved.ports[name]
    return lambda: listening(port)


def _munged(layout: Layout, cluster: str) -> Daemon:
    socket, folder = layout.munge_socket(cluster), layout.logs / "munge"
    return Daemon(
        name=f"munged-{cluster}",
        cluster=cluster.upper(),
        command=(
            "/usr/sbin/munged",
            "--foreground",
            "--force",  # the checkout may lie in a folder that is not root's, where it refuses keys
            f"--socket={socket}",
            f"--key-file={layout.munge_key(cluster)}",
            f"--log-file={folder / f'{cluster}.log'}",
            f"--pid-file={layout.run / 'munge' / f'{cluster}.pid'}",
            f"--seed-file={folder / f'{cluster}.seed'}",
        ),
        user=users.MUNGE,
        ready=lambda: _munge_works(socket),
        reads=(layout.munge_key(cluster),),
    )


def _munge_works(socket: Path) -> bool:
    return (
        socket.exists()
        and not run(["munge", "--no-input", "-S", socket], environment=clean(), timeout_s=5).returncode
    )


def _mariadbd(layout: Layout, saved: SavedState) -> Daemon:
    return Daemon(
        name="mariadbd",
        cluster="C2",
        command=database.command(layout, saved),
        user=users.SLURM,
        ready=_port(saved, "database"),
        prepare=lambda: database.prepare(layout, saved),
    )


def _c2_files(layout: Layout) -> tuple[Path, ...]:
    folder = layout.c2_conf.parent
    return (layout.c2_conf, folder / "qslurm.conf", layout.jwks)


def _slurmdbd(layout: Layout, saved: SavedState, variables: Variables) -> Daemon:
    return Daemon(
        name="slurmdbd",
        cluster="C2",
        # finds slurmdbd.conf beside $SLURM_CONF: 22.05 has no -f
        command=(layout.slurm_program("c2", "slurmdbd"), "-D"),
        user=users.SLURM,
        ready=_port(saved, "c2_slurmdbd"),
        after=("munged-c2", "mariadbd"),
        environment={"SLURM_CONF": str(layout.c2_conf)},
        reads=(layout.c2_conf.with_name("slurmdbd.conf"), layout.jwks),
        finish=lambda: slurm.register(layout, variables["c2"]["cluster"]),
    )


def _slurmctld(layout: Layout, saved: SavedState, cluster: str, after: tuple[str, ...]) -> Daemon:
    conf = layout.c1_conf if cluster == "c1" else layout.c2_conf
    serves = _port(saved, f"{cluster}_slurmctld")
    return Daemon(
        name=f"slurmctld-{cluster}",
        cluster=cluster.upper(),
        command=(layout.slurm_program(cluster, "slurmctld"), "-D", "-f", conf),
        user=users.SLURM,
        ready=lambda: serves() and slurm.controller_answers(layout, cluster),
        after=after,
        environment={"SLURM_CONF": str(conf)},
        reads=(conf,) if cluster == "c1" else _c2_files(layout),
    )


def _slurmd(layout: Layout, variables: Variables, cluster: str) -> Daemon:
    conf = layout.c1_conf if cluster == "c1" else layout.c2_conf
    cgroups = conf.with_name("cgroup.conf")
    return Daemon(
        name=f"slurmd-{cluster}",
        cluster=cluster.upper(),
        command=(
            layout.slurm_program(cluster, "slurmd"),
            *("-D", "-N", variables[cluster]["node"], "-f", conf),
            *(("-d", layout.slurm_program("c2", "slurmstepd")) if layout.has_own_slurm(cluster) else ()),
        ),
        user="root",
        ready=slurm.node_ready(layout, cluster),
        after=(f"slurmctld-{cluster}",),
        environment={"SLURM_CONF": str(conf)},
        reads=(conf, cgroups) if cluster == "c1" else (*_c2_files(layout), cgroups),
        every_s=0.05,
    )


def _slurmrestd(layout: Layout, saved: SavedState) -> Daemon:
    return Daemon(
        name="slurmrestd",
        cluster="C2",
        command=(
            layout.slurm_program("c2", "slurmrestd"),
            "-f",
            layout.c2_conf,
            "-a",
            "rest_auth/jwt",
            f"127.0.0.1:{saved.ports['c2_slurmrestd']}",
        ),
        user=users.REST,  # it refuses root, and newer ones SlurmUser
        ready=_port(saved, "c2_slurmrestd"),
        environment={
            "SLURM_CONF": str(layout.c2_conf),
            "SLURM_JWT": "daemon",
        },  # without SLURM_JWT each call is 401
        reads=_c2_files(layout),
    )


def _services(layout: Layout, saved: SavedState, variables: Variables) -> list[Daemon]:
    """qslurm's services: on C2, and the center's agent and releaser."""
    environment = {"QSLURM_C2_CONFIG": str(layout.c2_qslurm)}
    # anew when the installed project changed
    reads = (layout.c2_qslurm, layout.state / "venv" / ".project")

    def service(
        name: str, user: str, ready: Callable[[], bool], after: tuple[str, ...], *, called: str = ""
    ) -> Daemon:
        command = (layout.python, "-I", "-m", "qslurm", called or name, "serve")
        return Daemon(name, "C2", command, user, ready, after, environment, reads, every_s=0.03)

    def center_service(
        name: str, command: str, user: str, ready: Callable[[], bool], **environment: str
    ) -> Daemon:
        return Daemon(
            name=name,
            cluster="C1",
            command=(layout.python, "-I", "-m", "qslurm", "agent", command, "--config", layout.agent_config),
            user=user,
            ready=ready,
            after=("munged-c1",),
            environment=environment,
            reads=(layout.agent_config, layout.state / "venv" / ".project"),
            every_s=0.03,
        )

    heartbeat = layout.gate / HEARTBEAT
    return [
        service("runtimes", "root", lambda: _has_warm_runtimes(layout), ("munged-c2",)),
        _with_capabilities(
            service("dispatcher", users.SERVICE, lambda: _dispatcher_answers(layout), ("munged-c2",))
        ),
        service("tokens", users.TOKENS, lambda: listening_at(layout.tokens_socket), (), called="token"),
        service("jobmanager", users.SERVICE, lambda: _healthy(saved.ports["jobmanager"]), ("dispatcher",)),
        replace(
            service("gate", users.SLURM, heartbeat.exists, ("dispatcher", "slurmctld-c2")),
            prepare=lambda: heartbeat.unlink(missing_ok=True),
            finish=lambda: _first_opening(layout, variables),
        ),
        center_service("agent", "serve", users.AGENT, lambda: _agent_listens(layout, saved)),
        # it opens no socket, and keeps nothing that a command could miss
        center_service("releaser", "releaser", users.SLURM, lambda: True, SLURM_CONF=str(layout.c1_conf)),
    ]


def _has_warm_runtimes(layout: Layout) -> bool:
    from qslurm.runtimes.classical.warm.warm_status import query_warm_status

    status = query_warm_status(str(layout.runtimes_socket))
    return status is not None and status.ready > 0


def _agent_listens(layout: Layout, saved: SavedState) -> bool:
    return listening_at(layout.agent_socket) and listening(saved.ports["agent"])


def _first_opening(layout: Layout, variables: Variables) -> None:
    """Enable the partitions of a new instance; later settings of an operator are kept."""
    if (layout.gate / "wishes.json").exists():
        return
    environment = clean(QSLURM_C2_CONFIG=str(layout.c2_qslurm))
    for backend in variables["backend"]:
        command = (layout.python, "-I", "-m", "qslurm", "partition", "enable", f"p_{backend['name']}")
        checked(run(command, environment=environment))


def _with_capabilities(dispatcher: Daemon) -> Daemon:
    """The capabilities of its unit (AmbientCapabilities): it starts quantum runtimes as another user."""
    needed = "+setuid,+setgid,+kill"
    who = (f"--reuid={dispatcher.user}", f"--regid={dispatcher.user}", "--init-groups")
    command = (
        "/usr/bin/setpriv",
        *who,
        f"--inh-caps={needed}",
        f"--ambient-caps={needed}",
        "--",
        *dispatcher.command,
    )
    return replace(dispatcher, command=command, user="root")


def _dispatcher_answers(layout: Layout) -> bool:
    from qslurm.errors import UnreachableError
    from qslurm.protocol.dispatcher_client import DispatcherClient
    from qslurm.protocol.messages import GetStatus, Status

    if not layout.dispatcher_socket.exists():
        return False
    try:
        with DispatcherClient(str(layout.dispatcher_socket), timeout_s=1.0) as client:
            return isinstance(client.ask(GetStatus()), Status)
    except UnreachableError:
        return False


def _healthy(port: int) -> bool:
    if not listening(port):
        return False
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def dependants(daemons: Mapping[str, Daemon]) -> dict[str, set[str]]:
    """For each daemon those that depend on it, which must stop first."""
    return {name: {other.name for other in daemons.values() if name in other.after} for name in daemons}
