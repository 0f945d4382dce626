"""A center's connection to C2: slurmrestd for jobs, the job manager for results; directly, or by the center's agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from qslurm.errors import ConfigError, InvalidInputError

if TYPE_CHECKING:
    from qslurm.c1.config.center_config import Config
    from qslurm.c1.connection.agent_messages import Moved
    from qslurm.c1.connection.interface import Platform, Slurm
    from qslurm.c1.connection.job_manager import JobManagerClient
    from qslurm.slurm.job_info import JobInfo
    from qslurm.tokens.secret import Secret


def open_center(config: Config, *, say: Callable[[str], None] = lambda _: None) -> Center:
    """The way to C2 that the configuration says; nothing is sent yet.

    By the center's agent if there is one, unless the user has a token in the environment or has named its file;
    InvalidInputError for a flag that would be about the way to C2 then, and that the agent would not hear of.
    `say` gets a sentence when something takes long.
    """
    if by_agent(config):
        if config.own_way:
            raise InvalidInputError(
                f"Here the center's agent is asked, which has its own way to C2: {config.own_way} means nothing to it.",
                hint="Leave it out; or give --token-file as well, to go to C2 without the agent.",
            )
        from qslurm.c1.connection.agent_connection import AgentConnection

        return AgentConnection(config, say)
    return Center(config)


def by_agent(config: Config) -> bool:
    """Whether commands ask the center's agent, and not C2 itself."""
    return bool(config.agent.socket or config.agent.address) and config.token is None and not config.own_token


class Center:
    """A center as C2 sees it. Connections are made when they are first used.

    `token` is shown to C2, if it is given, instead of the one that the configuration names.
    """

    def __init__(self, config: Config, token: Secret | None = None) -> None:
        self.config = config
        if token is not None:
            self.token = token

    @cached_property
    def token(self) -> Secret:
        """The center's token, checked for its file's mode and its expiry; TokenError otherwise."""
        from qslurm.c1.config.center_config import load_token

        return load_token(self.config)

    @cached_property
    def slurm(self) -> Slurm:
        """C2's slurmrestd."""
        from qslurm.c1.connection.api_versions import connect

        return connect(self.config, self.token)

    @cached_property
    def results(self) -> Platform:
        """C2's job manager; ConfigError when nobody said where it is."""
        return self.job_manager

    @cached_property
    def job_manager(self) -> JobManagerClient:
        """The same, as it answers centers and no users: it renews tokens, too."""
        from qslurm.c1.connection.job_manager import JobManagerClient

        if not self.config.c2.results_url:
            raise ConfigError(
                "Nobody said where C2's job manager is, which keeps results and logs.",
                hint=f"Set results_url under [{self.config.section}] in the config, QSLURM_RESULTS_URL,"
                " or --results-url.",
            )
        return JobManagerClient(self.config.c2.endpoint(self.config.c2.results_url, self.token))

    @property
    def prefix(self) -> str:
        """What stands before an id of this platform's jobs, so that commands find them; often nothing."""
        return self.config.prefix

    @property
    def has_platform(self) -> bool:
        """Whether somebody said where the job manager is."""
        return bool(self.config.c2.results_url)

    def delay(self, waited_s: float) -> float:
        """How long to pause before the next look, after so many seconds of waiting."""
        from qslurm.c1.connection.polling import next_delay

        return next_delay(waited_s)

    def pause(self, seconds: float, job: JobInfo | None) -> list[JobInfo] | None:
        """Wait before the next look at a job: so long, or less if it is known to have changed.

        How it is then, with the other tasks of its array, where somebody tells; else who waits must ask.
        """
        del job
        time.sleep(seconds)
        return None

    def moved(self, since: int, patience_s: float) -> Moved | None:
        """Which jobs have changed since an answer had this number, once there are some; None where nobody tells."""
        del since, patience_s
        return None

    @property
    def submissions_at_once(self) -> int:
        """How many may be under way: more are not faster, slurmctld takes them one by one."""
        return 4

    @property
    def follow_ups(self) -> str:
        """Under which name follow-ups are known to who releases them; nothing without an agent that has a releaser."""
        return ""

    def depend(self, *, waits: str = "", followed: bool = False) -> None:
        """What is submitted from now on has dependants on C1, which only an agent can look after."""
        del waits, followed

    def be_patient(self, seconds: float) -> None:
        """How long what is submitted from now on may wait for C2 where an agent keeps it; nobody does without one."""
        del seconds

    def let_go(self, key: str) -> None:
        """What `depend` has said of this submission holds no more."""
        del key

    def close(self) -> None:
        """Close what is open; what is used again connects again."""
        for name in ("slurm", "results", "job_manager"):
            if name in self.__dict__:
                getattr(self, name).close()
