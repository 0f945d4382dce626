"""A center's connection to C2's slurmrestd and job manager, directly or through the center's agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import Config
    from qslurm.c1.connection.agent_messages import Moved
    from qslurm.c1.connection.client_protocols import JobManager, SlurmClient
    from qslurm.c1.connection.job_manager import JobManagerClient
    from qslurm.slurm.job_info import JobInfo
    from qslurm.tokens.secret import Secret


def open_connection(config: Config, *, say: Callable[[str], None] = lambda _: None) -> CenterConnection:
    """The configured connection to C2; sends nothing yet.

    By the center's agent if there is one, unless the user has a token in the environment or has named its file;
    InvalidInputError for a flag that would be about the way to C2 then, and that the agent would not hear of.
    `say` gets a sentence when something takes long.
    """
    if uses_agent(config):
        if config.own_way:
            raise InvalidInputError(
                f"{config.own_way} has no effect: this host submits through the center's agent.",
                hint="Omit it, or add --token-file to connect to C2 without the agent.",
            )
        from qslurm.c1.connection.agent_connection import AgentConnection

        return AgentConnection(config, say)
    return CenterConnection(config)


def uses_agent(config: Config) -> bool:
    """Whether commands use the center's agent instead of C2 directly."""
    return bool(config.agent.socket or config.agent.address) and config.token is None and not config.own_token


class CenterConnection:
    """A center's connection to C2, opened on first use.

    `token` is shown to C2, if it is given, instead of the one that the configuration names.
    """

    def __init__(self, config: Config, token: Secret | None = None) -> None:
        self.config = config
        if token is not None:
            self.token = token

    @cached_property
    def token(self) -> Secret:
        """The center's token; TokenError if its file's mode is unsafe or it has expired."""
        from qslurm.c1.config.center_config import load_token

        return load_token(self.config)

    @cached_property
    def slurm(self) -> SlurmClient:
        """C2's slurmrestd."""
        from qslurm.c1.connection.api_versions import connect

        return connect(self.config, self.token)

    @cached_property
    def job_manager(self) -> JobManager:
        """C2's job manager; ConfigError if its URL is not set."""
        from qslurm.c1.config.center_config import require_results_url

        require_results_url(self.config)  # before the token is read
        return job_manager_client(self.config, self.token)

    @property
    def prefix(self) -> str:
        """The prefix of this platform's job ids; "" for the default platform."""
        return self.config.prefix

    @property
    def has_job_manager(self) -> bool:
        """Whether a job manager is configured."""
        return bool(self.config.c2.results_url)

    def delay(self, waited_s: float) -> float:
        """Seconds until the next poll, after this many seconds of waiting."""
        from qslurm.c1.connection.polling import next_delay

        return next_delay(waited_s)

    def wait_for_change(self, seconds: float, job: JobInfo | None) -> list[JobInfo] | None:
        """Wait before the next poll of a job, less if it is known to have changed.

        How it is then, with the other tasks of its array, where somebody tells; else who waits must ask.
        """
        del job
        time.sleep(seconds)
        return None

    def changes_since(self, since: int, patience_s: float) -> Moved | None:
        """The jobs that changed after an answer with this number; None if changes are not reported."""
        del since, patience_s
        return None

    @property
    def submissions_at_once(self) -> int:
        """Concurrent submissions; more are not faster, since slurmctld handles one at a time."""
        return 4

    @property
    def follow_up_platform(self) -> str:
        """The platform's name in follow-ups; "" without an agent that has a releaser."""
        return ""

    def bind(self, *, waits: str = "", followed: bool = False) -> None:
        """Bind later submissions to jobs of C1; only an agent supports this."""
        del waits, followed

    def set_outbox_timeout(self, seconds: float) -> None:
        """How long later submissions may wait in an agent's outbox; without an agent, no effect."""
        del seconds

    def unbind(self, key: str) -> None:
        """What `depend` has said of this submission holds no more."""
        del key

    def close(self) -> None:
        """Close what is open; what is used again connects again."""
        for name in ("slurm", "job_manager"):
            if name in self.__dict__:
                getattr(self, name).close()


def job_manager_client(config: Config, token: Secret) -> JobManagerClient:
    """A direct connection to C2's job manager; ConfigError if its URL is not set."""
    from qslurm.c1.config.center_config import require_results_url
    from qslurm.c1.connection.job_manager import JobManagerClient

    return JobManagerClient(config.c2.endpoint(require_results_url(config), token))
