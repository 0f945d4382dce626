"""A center's connection to C2's slurmrestd and job manager, directly or through the center's agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from qslurm.errors import InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.agent_messages import ChangedJobs
    from qslurm.c1.connection.client_protocols import JobManagerApi, SlurmClient
    from qslurm.c1.connection.job_manager import JobManagerClient
    from qslurm.slurm.job_info import JobInfo
    from qslurm.tokens.secret import Secret


def open_connection(config: Config, *, say: Callable[[str], None] = lambda _: None) -> CenterConnection:
    """The configured connection to C2; sends nothing yet.

    Through the center's agent if one is configured, unless the user has a token in the environment or named its file.
    InvalidInputError for a flag, such as --url, that has no effect with the agent. `say` gets progress messages.
    """
    if uses_agent(config):
        if config.direct_flag:
            raise InvalidInputError(
                f"{config.direct_flag} has no effect: this host submits through the center's agent.",
                hint="Omit it, or add --token-file to connect to C2 without the agent.",
            )
        from qslurm.c1.connection.agent_connection import AgentConnection

        return AgentConnection(config, say)
    return CenterConnection(config)


def uses_agent(config: Config) -> bool:
    """Whether commands use the center's agent instead of C2 directly."""
    return (
        bool(config.agent.socket or config.agent.address)
        and config.token is None
        and not config.has_own_token
    )


class CenterConnection:
    """A center's direct connection to C2, opened on first use. `token` overrides the configured one.

    AgentConnection overrides what differs with an agent.
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
    def job_manager(self) -> JobManagerApi:
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
        """Wait before the next poll of a job, at most until it changes, if changes are reported.

        Returns the new state (of an array, all tasks) if it was reported; None if C2 must be queried.
        """
        del job
        time.sleep(seconds)
        return None

    def changes_since(self, since: int, timeout_s: float) -> ChangedJobs | None:
        """The jobs that changed since the answer with this number; None if changes are not reported."""
        del since, timeout_s
        return None

    @property
    def submissions_at_once(self) -> int:
        """Useful concurrent submissions; more are not faster, since slurmctld handles one at a time."""
        return 4

    @property
    def follow_up_platform(self) -> str:
        """The platform's name in follow-ups; "" without an agent that has a releaser."""
        return ""

    def bind(self, *, waits: str = "", followed: bool = False) -> None:
        """Bind later submissions to a C1 job that waits for them, or follows. No effect without an agent."""
        del waits, followed

    def set_outbox_timeout(self, seconds: float) -> None:
        """Limit how long later submissions wait in the agent's outbox. No effect without an agent."""
        del seconds

    def unbind(self, key: str) -> None:
        """Undo `bind` for this submission."""
        del key

    def close(self) -> None:
        """Close the connections; later requests reconnect."""
        for name in ("slurm", "job_manager"):
            if name in self.__dict__:
                getattr(self, name).close()


def job_manager_client(config: Config, token: Secret) -> JobManagerClient:
    """A direct connection to C2's job manager; ConfigError if its URL is not set."""
    from qslurm.c1.config.center_config import require_results_url
    from qslurm.c1.connection.job_manager import JobManagerClient

    return JobManagerClient(config.c2.endpoint(require_results_url(config), token))
