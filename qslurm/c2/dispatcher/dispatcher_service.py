"""`qslurm dispatcher serve`: runs the dispatcher in the foreground until SIGTERM."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from qslurm.c2.config.dispatcher_section import BackendConfig, DispatcherConfig, RemoteConfig, SessionsConfig
from qslurm.c2.config.user_ids import uids_of
from qslurm.c2.dispatcher.listeners.connection_limits import allow_many_descriptors
from qslurm.c2.scheduling.policy import POLICIES
from qslurm.errors import ConfigError, InvalidInputError, QslurmError
from qslurm.protocol.messages.remote_runtimes import MISSED_HEARTBEATS
from qslurm.runtimes.quantum.pool_process import ENDPOINT_LENGTH
from qslurm.runtimes.quantum.process_starter import ENDPOINT_FOLDER, Starter, fork_starter
from qslurm.system.event_log import EventLog, configure
from qslurm.system.signals import signals_stop
from qslurm.wire.credentials import Identity, Munge

log = EventLog(__name__)

_SOCKET_PATH_LIMIT = 107
"""Bytes of a Unix socket's path (unix(7))."""


@dataclass(frozen=True)
class _Extras:
    """Optional parts: runtimes on other hosts, sessions, and the starter of quantum runtimes as another user."""

    remote: RemoteConfig | None
    sessions: SessionsConfig | None
    starter: Starter | None


def serve(
    config: DispatcherConfig,
    backends: Sequence[BackendConfig],
    *,
    identity: Identity | None = None,
    remote: RemoteConfig | None = None,
    sessions: SessionsConfig | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then end all started processes and remove the socket.

    An invalid configuration is a ConfigError before anything is changed; a dispatcher that is already running, or a
    store that cannot be opened, is a QslurmError. `identity` verifies senders (default: MUNGE).
    """
    remote = remote if remote and remote.listen else None
    sessions = sessions if sessions and sessions.listen else None
    check_config(config, backends, remote)
    if sessions is not None:
        check_sessions(sessions)
    configure("dispatcher")
    allow_many_descriptors()
    trusted = uids_of(config.trusted_users, "[dispatcher] trusted_users") | {0, os.getuid()}
    with ExitStack() as stack:
        # before this process holds data of jobs
        starter = fork_starter(config.runtime_user) if config.runtime_user else None
        if starter is not None:
            stack.callback(starter.close)
        stack.enter_context(_exclusive(config.socket))
        known = identity or Munge(config.munge_socket)
        _serve(config, backends, known, trusted, _Extras(remote, sessions, starter))


def check_config(
    config: DispatcherConfig, backends: Sequence[BackendConfig], remote: RemoteConfig | None = None
) -> None:
    """ConfigError with the name of the setting if the configuration is invalid."""
    names = [backend.name for backend in backends]
    if not names:
        raise ConfigError("No backend configured.", hint="Add a [[backend]] section with a name.")
    for backend in backends:
        if names.count(backend.name) > 1:
            raise ConfigError(f"Duplicate backend {backend.name!r}.")
        _check_backend(backend, remote)
    if remote is not None:
        check_remote(remote)
    folder = os.fsencode(Path(config.socket).parent)
    if max(len(os.fsencode(config.socket)), len(folder) + ENDPOINT_LENGTH) > _SOCKET_PATH_LIMIT:
        raise ConfigError(f"[dispatcher] socket: path too long for a Unix socket: {config.socket}")
    if not Path(config.socket).parent.is_dir():
        raise ConfigError(f"[dispatcher] socket: directory {Path(config.socket).parent} does not exist.")


def _check_backend(backend: BackendConfig, remote: RemoteConfig | None) -> None:
    if backend.name == "any":
        raise ConfigError("Invalid backend name 'any': centers use it for whichever backend is free.")
    if backend.policy not in POLICIES:
        raise ConfigError(
            f"Backend {backend.name!r}: unknown policy {backend.policy!r}. Available: {', '.join(POLICIES)}."
        )
    if backend.places < 1:
        raise ConfigError(f"Backend {backend.name!r}: workers must be 1 or more, unless `remote` is.")
    if backend.remote and remote is None:
        raise ConfigError(
            f"Backend {backend.name!r}: remote is {backend.remote}, but [remote] listen is not set."
        )
    if backend.default_shots > backend.max_shots:
        raise ConfigError(f"Backend {backend.name!r}: default_shots is more than max_shots.")
    check_runtime(backend)


def check_remote(remote: RemoteConfig) -> None:
    """ConfigError if the settings for runtimes on other hosts are invalid."""
    from qslurm.protocol.curve.key_files import read_keys

    if not remote.listen.startswith("tcp://"):
        raise ConfigError(f"[remote] listen: {remote.listen!r} is not tcp://ADDRESS:PORT.")
    if remote.grace_s < MISSED_HEARTBEATS * remote.beat_s:
        raise ConfigError(f"[remote] grace_s must be at least {MISSED_HEARTBEATS} times beat_s.")
    read_keys(Path(remote.key))


def check_sessions(sessions: SessionsConfig) -> None:
    """ConfigError if the settings for sessions are invalid."""
    from qslurm.protocol.session_frames import host_and_port

    for name in ("listen", "address"):
        if place := getattr(sessions, name):
            try:
                host_and_port(place)
            except InvalidInputError as error:
                raise ConfigError(f"[sessions] {name}: {error.message}", hint=error.hint) from error
    if host_and_port(sessions.address or sessions.listen)[0] in {"0.0.0.0", "::"}:  # noqa: S104 - it is refused
        raise ConfigError(
            "[sessions] address is not set, and the address in listen is not one that centers can reach.",
            hint='Set it, for example address = "c2.example.org:8044".',
        )


def check_runtime(backend: BackendConfig) -> None:
    """ConfigError if a backend's quantum runtime is unknown or does not accept its options."""
    from qslurm.runtimes.plugin import find_plugin, read_options

    try:
        plugin = find_plugin(backend.runtime)
    except ConfigError as error:
        raise ConfigError(f"Backend {backend.name!r}: {error.message}", hint=error.hint) from error
    read_options(plugin, backend.options, f"backend {backend.name!r}")
    if 0 < plugin.max_workers < backend.places:
        raise ConfigError(
            f"Backend {backend.name!r}: workers and remote together must be at most {plugin.max_workers}"
            f" with runtime {backend.runtime!r}."
        )


def _serve(
    config: DispatcherConfig,
    backends: Sequence[BackendConfig],
    identity: Identity,
    trusted: frozenset[int],
    extras: _Extras,
) -> None:
    import zmq

    from qslurm.c2.dispatcher.main_loop import Dispatcher, DispatcherLimits
    from qslurm.c2.dispatcher.tasks.lane_tasks import RegisteredTasks
    from qslurm.c2.dispatcher.tasks.task_registry import TaskRegistry
    from qslurm.c2.store.store import Store
    from qslurm.runtimes.lanes.recovery import recover
    from qslurm.runtimes.quantum.circuit_reader import refusal_reason

    folder = Path(config.socket).parent
    for left in folder.glob("qslurm-runtime-*"):  # of a dispatcher that was killed while a runtime joined
        shutil.rmtree(left)
    if extras.starter is not None:
        shutil.rmtree(folder / ENDPOINT_FOLDER, ignore_errors=True)
        (folder / ENDPOINT_FOLDER).mkdir()
        (folder / ENDPOINT_FOLDER).chmod(0o711)
    store = Store(config.store)
    try:
        with zmq.Context() as context:
            # a private dispatcher's jobs are its user's own, not Slurm's
            limits = DispatcherLimits(
                trusted, config.execution_limit_s, only_own_job=isinstance(identity, Munge)
            )
            registry = TaskRegistry(backends, store)
            logbooks = f"{config.store}-"
            tasks = RegisteredTasks(registry)
            recover(logbooks, tasks.record, tasks.store_now)
            dispatcher = Dispatcher(
                registry,
                identity,
                limits,
                context=context,
                folder=folder,
                read=refusal_reason,
                logbooks=logbooks,
                remote=extras.remote,
                sessions=extras.sessions,
                starter=extras.starter,
            )
            with signals_stop(dispatcher.stop, dispatcher.wake_fd):
                dispatcher.listen(config.socket)
                Path(config.socket).chmod(0o666)  # requests are authorized by their credentials
                log.info("listening", socket=config.socket, open_jobs=len(registry.tasks))
                if extras.remote is not None:
                    log.info(
                        "listening for quantum runtimes on other hosts", address=dispatcher.bind_remote()
                    )
                if extras.sessions is not None:
                    log.info("listening for session clients", address=dispatcher.sessions_address)
                dispatcher.run()
    finally:
        store.close()
        Path(config.socket).unlink(missing_ok=True)
    log.info("stopped")


@contextmanager
def _exclusive(socket: str) -> Iterator[None]:
    """Hold the lock beside the socket, so that no second dispatcher uses it."""
    path = Path(f"{socket}.lock")
    descriptor = _lock(path)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise QslurmError(f"Cannot create {path}: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise QslurmError(
                f"A dispatcher (process {holder or 'unknown'}) is already listening on {path.with_suffix('')}.",
                hint="Stop it first, or set another socket.",
            ) from error
        if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
        os.close(descriptor)  # its last holder removed the file after we opened it
