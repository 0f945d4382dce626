"""Options that several commands share, and the connections that they select."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qslurm.errors import InvalidInputError, QslurmError, UnknownJobError
from qslurm.payload.option import MOST_SECONDS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from qslurm.c1.config.platforms import Platforms
    from qslurm.c1.config.settings import Config
    from qslurm.c1.connection.center_connection import CenterConnection
    from qslurm.c1.queries.job_ids import JobRef
    from qslurm.payload.option import Declared, Place

_Function = TypeVar("_Function", bound=Callable[..., Any])

c2_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="QSLURM_C2_CONFIG",
    show_default="/etc/qslurm/c2.toml",
    help="C2's configuration file.",
)

reason_option = click.option(
    "--reason",
    "-r",
    default="",
    show_default=False,
    metavar="TEXT",
    help="Reason to show, as in scontrol.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def job_options(place: Place, **helps: str) -> Callable[[_Function], _Function]:
    """The options of a job for one command, with `helps` instead of the declared help of some."""
    from qslurm.payload.spec import job_options as declared

    options = [_click_option(one, helps.get(one.field)) for one in declared(place).values()]

    def add(function: _Function) -> _Function:
        for option in reversed(options):  # decorators apply from the last to the first
            function = option(function)
        return function

    return add


def _click_option(one: Declared, other_help: str | None) -> Callable[[_Function], _Function]:
    option = one.option
    names = [f"--{one.name}", *([f"-{option.short}"] if option.short else []), one.field]
    text = other_help or option.help
    if one.type == "flag":
        return click.option(*names, is_flag=True, help=text)
    types = {"whole": Whole(option.least), "seconds": Seconds(MOST_SECONDS)}
    shown: dict[str, Any] = {"show_default": option.default} if option.default else {}
    return click.option(
        *names,
        type=types.get(one.type),
        metavar=option.metavar,
        multiple=one.is_repeatable,
        help=text,
        **shown,
    )


class JobId(click.ParamType["JobRef"]):
    """A Slurm job id, or 12_3 for task 3 of array 12; with `anywhere` also tuna:12, of the platform tuna."""

    name = "job id"

    def __init__(self, *, anywhere: bool = False) -> None:
        self._anywhere = anywhere

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> JobRef:
        """The job; a usage error for anything else."""
        from qslurm.c1.queries.job_ids import parse_ref

        try:
            job = parse_ref(str(value))
        except InvalidInputError as error:
            self.fail(error.message, param, ctx)
        if (job.platform or job.key) and not self._anywhere:
            self.fail(f"Invalid job id {str(job)[:40]!r}.", param, ctx)
        return job


job_argument = click.argument("job", type=JobId(anywhere=True), metavar="JOBID")


class Seconds(click.FloatRange):
    """A positive number of seconds; not "nan"."""

    def __init__(self, most: float | None = None) -> None:
        super().__init__(min=0, min_open=True, max=most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of seconds; a usage error for anything else."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"Invalid number of seconds {value!r}.", param, ctx)
        return seconds


LARGEST = 2**53 - 1
"""The largest integer that JSON and SQLite can hold."""


class Whole(click.ParamType[int]):
    """An integer, at least `least` and at most LARGEST."""

    name = "number"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; a usage error for anything else."""
        try:
            number = int(str(value))
        except ValueError:  # not a number, or too many digits
            number = self._least - 1
        if not self._least <= number <= LARGEST:
            most = f", and at most {LARGEST}" if number > LARGEST else ""
            self.fail(f"{str(value)[:40]!r} is not a whole number, {self._least} or more{most}.", param, ctx)
        return number


class CenterFlags:
    """The flags that select the platform and how to connect to it."""

    def __init__(self, **flags: str | None) -> None:
        self._flags = {name: value for name, value in flags.items() if value is not None}
        self._opened: dict[str, CenterConnection] = {}
        self._last: JobRef | None = None
        self.outbox_timeout_s: float | None = None
        """Maximum seconds that a submission may wait in the agent's outbox; None: no limit."""

    @property
    def platform(self) -> str | None:
        """The platform that --platform names."""
        return self._flags.get("platform")

    @cached_property
    def platforms(self) -> Platforms:
        """The configured platforms, from flags, the environment and files."""
        from qslurm.c1.config.platforms import load_platforms

        return load_platforms(self._flags)

    def config(self) -> Config:
        """The settings of the selected platform."""
        return self.platforms.config()

    def open(self, platform: str = "") -> CenterConnection:
        """A connection to C2, directly or through the agent; sends nothing yet."""
        from qslurm.c1.connection.center_connection import open_connection, uses_agent
        from qslurm.cli.output import note

        config = self.platforms.config(platform)
        connection = open_connection(config, say=note)
        if self.outbox_timeout_s is not None and uses_agent(config):
            connection.set_outbox_timeout(self.outbox_timeout_s)
        return connection

    def of(self, job: JobRef) -> tuple[CenterConnection, JobRef]:
        """The connection to a job's platform, and the job with the prefix that it needs without these flags.

        InvalidInputError if --platform contradicts the job's prefix; UnknownJobError for an unknown submission key.
        """
        selected = self.platform
        if job.platform and selected and job.platform != selected:
            raise InvalidInputError(
                f"Job {job} is on platform {job.platform}, but --platform is {selected}.",
                hint="Use only one of them.",
            )
        config = self.platforms.config(job.platform)
        if config.platform not in self._opened:
            self._opened[config.platform] = self.open(config.platform)
        connection = self._opened[config.platform]
        if job.key:
            from qslurm.c1.queries.job_state import with_key

            job = replace(job, job_id=with_key(connection, job.key), key="")
        self._last = replace(job, platform=config.prefix.rstrip(":"))
        return connection, self._last

    def located(self, error: UnknownJobError) -> UnknownJobError:
        """Add the queried platform to the error for an unknown job, if there are several platforms."""
        if self._last is None or len(self.platforms.names) < 2:
            return error
        here = self._last.platform or self.platforms.default
        other = next(name for name in self.platforms.names if name != here)
        there = f"only platform {here} was queried; use {other}:{self._last.job_id} for a job on {other}."
        return UnknownJobError(error.message, hint=f"{error.hint} {there[0].upper()}{there[1:]}".strip())


class PlatformName(click.ParamType[str]):
    """The name of a configured platform, with shell completion."""

    name = "platform"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The matching platforms; none if the configuration cannot be read."""
        from click.shell_completion import CompletionItem

        from qslurm.c1.config.platforms import load_platforms

        try:
            names = load_platforms().names
        except QslurmError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


platform_option = click.option(
    "--platform",
    "-M",
    type=PlatformName(),
    metavar="NAME",
    help="Platform, if several are configured (else QSLURM_PLATFORM, or the configuration).",
)

_CENTER_OPTIONS = (
    platform_option,
    click.option(
        "--url", metavar="URL", help="URL of C2's slurmrestd (else QSLURM_C2_URL, or the configuration)."
    ),
    click.option(
        "--user", metavar="NAME", help="The center's user on C2 (else QUSER, or the configuration)."
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        help="File with the center's token (else SLURM_JWT, QSLURM_TOKEN_FILE, or the configuration).",
    ),
    click.option("--api-version", metavar="VERSION", help="API version of slurmrestd, or auto."),
    click.option(
        "--results-url",
        metavar="URL",
        help="URL of C2's job manager (else QSLURM_RESULTS_URL, or the configuration).",
    ),
)


def center_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that select the platform; the command gets them as `center`."""

    def with_center(
        *args: object,
        platform: str | None,
        url: str | None,
        user: str | None,
        token_file: str | None,
        api_version: str | None,
        results_url: str | None,
        **options: object,
    ) -> Any:
        flags = CenterFlags(
            platform=platform,
            url=url,
            user=user,
            token_file=token_file,
            api_version=api_version,
            results_url=results_url,
        )
        try:
            return command(*args, center=flags, **options)
        except UnknownJobError as error:
            raise flags.located(error) from error

    wrapped = update_wrapper(with_center, command)
    for option in reversed(_CENTER_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
