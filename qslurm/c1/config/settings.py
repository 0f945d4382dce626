"""Every setting of a center: type, default, documentation, environment variable, example.

Whoever documents them, or writes a configuration for others, asks `settings()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from qslurm.payload.templates import user_folder
from qslurm.tokens.secret import Secret

if TYPE_CHECKING:
    from qslurm.slurm.rest.endpoint import Endpoint

FIRST = "c2"
"""Name of the platform configured by [c2] and [agent]."""


def _said(doc: str, *, env: str = "", example: object = None, **limits: Any) -> msgspec.Meta:
    """A setting's documentation, environment variable, example, and constraints on its value."""
    return msgspec.Meta(
        description=doc, extra={"env": env}, examples=[example] if example is not None else None, **limits
    )


class C2Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[c2], or [platform.NAME]: access to a C2."""

    url: Annotated[
        str, _said("URL of C2's slurmrestd.", env="QSLURM_C2_URL", example="https://c2.example.org:6820")
    ] = ""
    results_url: Annotated[
        str,
        _said("URL of C2's job manager.", env="QSLURM_RESULTS_URL", example="https://c2.example.org:8042"),
    ] = ""
    user: Annotated[
        str, _said("The center's user on C2. Default: the token's user.", env="QUSER", example="center_a")
    ] = ""
    token_file: Annotated[
        str,
        _said(
            "File with the center's token, mode 0600 or 0640.",
            env="QSLURM_TOKEN_FILE",
            example="/etc/qslurm/token",
        ),
    ] = ""
    api_version: Annotated[
        str,
        _said(
            "API version of C2's slurmrestd; auto negotiates it.", env="QSLURM_API_VERSION", example="v0.0.39"
        ),
    ] = "auto"
    ca_file: Annotated[
        str,
        _said(
            "PEM file with the certificate authority of C2's certificate.",
            env="QSLURM_CA_FILE",
            example="/etc/qslurm/ca.pem",
        ),
    ] = ""
    pinned_key: Annotated[
        str,
        _said(
            "Accept only this public key of C2 (in the form of curl's --pinnedpubkey). Without ca_file,"
            " the certificate is not checked otherwise.",
            example="sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwE=",
        ),
    ] = ""
    proxy: Annotated[
        str,
        _said(
            "HTTP proxy for connections to C2. Proxy variables of the environment are ignored.",
            example="http://proxy:3128",
        ),
    ] = ""
    tls: Annotated[
        Literal["required", "optional"],
        _said(
            "optional: allow http to other hosts, which sends the token unencrypted.",
            env="QSLURM_TLS",
            example="optional",
        ),
    ] = "required"
    timeout_s: Annotated[float, _said("Seconds to wait for C2's response.", example=30, gt=0, le=3600)] = 30.0

    def endpoint(self, url: str, token: Secret, user: str = "") -> Endpoint:
        """One of C2's two services (`url` or `results_url`), reached as these settings say."""
        from qslurm.slurm.rest.endpoint import Endpoint

        return Endpoint(url, token, user, self.timeout_s, self.ca_file, self.pinned_key, self.proxy)


class PlatformJobSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[platform.NAME.job]: defaults of jobs for this platform, overriding [job]."""

    backend: Annotated[str, _said("Default backend.", env="QSLURM_BACKEND", example="spin2")] = ""
    shots: Annotated[
        Annotated[int, msgspec.Meta(gt=0)] | None,
        _said("Number of shots. Default: the backend's.", example=1024),
    ] = None
    time_limit: Annotated[str, _said("Time limit, as for sbatch.", example="10:00")] = ""
    account: Annotated[str, _said("Slurm account on C2.", example="center_a")] = ""
    template_folders: Annotated[
        list[str], _said("Directories with your own templates.", example=["/home/ann/templates"])
    ] = []


class JobSettings(PlatformJobSettings, frozen=True, forbid_unknown_fields=True):
    """[job]: defaults of jobs."""

    platform: Annotated[
        str,
        _said(
            "Default platform, if several are configured ([platform.NAME]); [c2] is named c2.",
            env="QSLURM_PLATFORM",
            example="tuna",
        ),
    ] = ""


class UserLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[agent.users.NAME]: limits for one user; what is not set follows [agent]."""

    max_open_jobs: Annotated[int, msgspec.Meta(ge=0)] | None = None
    backends: list[str] | None = None
    accounts: list[str] | None = None


class AgentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[agent], or [platform.NAME.agent]: the center's agent, which holds the token for its users.

    Without it commands talk to C2 themselves.
    """

    socket: Annotated[
        str,
        _said(
            "Unix socket of the center's agent. If set, users need no token.",
            env="QSLURM_AGENT",
            example="/run/qslurm-agent/agent.sock",
        ),
    ] = ""
    address: Annotated[
        str,
        _said(
            "Where compute nodes reach the agent, which knows them by MUNGE.",
            env="QSLURM_AGENT_ADDRESS",
            example="head1:8043",
        ),
    ] = ""
    munge_socket: Annotated[
        str, _said("munged's socket; by default MUNGE's own.", example="/run/munge/munge.socket.2")
    ] = ""
    state: Annotated[str, _said("Directory of the agent's outbox.", example="/var/lib/qslurm-agent")] = (
        "/var/lib/qslurm-agent"
    )
    releaser: Annotated[
        str,
        _said(
            "User of `qslurm agent releaser`, which releases follow-up jobs; none if empty.", example="slurm"
        ),
    ] = ""
    max_open_jobs: Annotated[
        int,
        _said(
            "Maximum open jobs on C2 per user, counting an array's tasks; 0 for no limit.",
            example=100,
            ge=0,
        ),
    ] = 0
    backends: Annotated[
        list[str], _said("Backends that users may use; all if empty.", example=["qx", "spin2"])
    ] = []
    accounts: Annotated[
        list[str],
        _said(
            "Accounts on C2 that users may name, the first for those who name none; any if empty.",
            example=["snellius"],
        ),
    ] = []
    users: Annotated[
        dict[str, UserLimits],
        _said(
            "The same three limits for one user, as [agent.users.NAME].",
            example={"ann": {"max_open_jobs": 500}},
        ),
    ] = {}


@dataclass(frozen=True)
class Setting:
    """One setting, for documentation."""

    section: str
    name: str
    doc: str
    default: object
    env: str = ""
    example: object = None


SECTIONS: Mapping[str, type[msgspec.Struct]] = {"c2": C2Settings, "job": JobSettings, "agent": AgentSettings}

OF_A_PLATFORM: Mapping[str, type[msgspec.Struct]] = {
    "": C2Settings,
    "agent": AgentSettings,
    "job": PlatformJobSettings,
}
"""The sections of one platform: [platform.NAME] and its subtables."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The effective settings of one platform.

    `token` is the one that the environment gave, if it did; `own_token` says that the user has named a token's file.
    `own_way` is a flag about the way to C2, such as --url, if there was one.
    `prefix` is what stands before a job's id of this platform so that commands find it ("tuna:"; nothing where an id
    by itself is this platform's). `platforms` are the names of all that are configured.
    """

    c2: C2Settings = C2Settings()
    job: JobSettings = JobSettings()
    agent: AgentSettings = AgentSettings()
    token: Secret | None = None
    own_token: bool = False
    own_way: str = ""
    home: Path = Path()
    platform: str = FIRST
    prefix: str = ""
    platforms: tuple[str, ...] = (FIRST,)

    @property
    def section(self) -> str:
        """The configuration section of this platform."""
        return section_of(self.platform)

    def template_folders(self) -> list[Path]:
        """Directories searched for templates before the shipped ones."""
        own = user_folder(self.home)
        readable = os.access(own, os.R_OK | os.X_OK)  # $HOME may be another user's
        return [*map(expanded, self.job.template_folders), *([own] if readable else [])]


def expanded(path: str) -> Path:
    """A setting's path with `~` expanded; unchanged if the home directory is unknown."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path's own raises for a user whom nobody knows


def section_of(platform: str, table: str = "") -> str:
    """The section of a platform's settings, or of one of its tables (`agent`, `job`)."""
    if platform == FIRST:
        return table or FIRST
    return f"platform.{platform}.{table}" if table else f"platform.{platform}"


@cache
def settings() -> tuple[Setting, ...]:
    """All settings, in the order of the documentation."""
    return tuple(setting for section, struct in SECTIONS.items() for setting in settings_of(section, struct))


def settings_of(section: str, struct: type[msgspec.Struct]) -> Iterator[Setting]:
    """The settings of a section's struct."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        meta = next(part for part in get_args(hints[field.name]) if isinstance(part, msgspec.Meta))
        default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
        yield Setting(
            section,
            field.name,
            meta.description or "",
            default,
            (meta.extra or {}).get("env", ""),
            meta.examples[0] if meta.examples else None,
        )
