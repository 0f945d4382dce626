"""A center's connection to C2: slurmrestd for jobs, the job manager for results, one token for both."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from qslurm.errors import ConfigError

if TYPE_CHECKING:
    from qslurm.center.config import Config
    from qslurm.center.results import JobManagerClient
    from qslurm.slurmrest import SlurmrestClient
    from qslurm.tokens.secret import Secret


class Center:
    """A center as C2 sees it. Connections are made when they are first used."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def token(self) -> Secret:
        """The center's token, checked for its file's mode and its expiry; TokenError otherwise."""
        from qslurm.center.config import load_token

        return load_token(self.config)

    @cached_property
    def slurm(self) -> SlurmrestClient:
        """C2's slurmrestd."""
        from qslurm.center.versions import connect

        return connect(self.config, self.token)

    @cached_property
    def results(self) -> JobManagerClient:
        """C2's job manager; ConfigError when nobody said where it is."""
        from qslurm.center.results import JobManagerClient

        if not self.config.c2.results_url:
            raise ConfigError(
                "Nobody said where C2's job manager is, which keeps results and logs.",
                hint="Set results_url in the config, QSLURM_RESULTS_URL, or --results-url.",
            )
        return JobManagerClient(
            self.config.c2.results_url,
            self.token,
            timeout_s=self.config.c2.timeout_s,
            ca_file=self.config.c2.ca_file or None,
            proxy=self.config.c2.proxy or None,
        )

    def close(self) -> None:
        """Close what is open; what is used again connects again."""
        for name in ("slurm", "results"):
            if name in self.__dict__:
                getattr(self, name).close()
