"""The settings of a center, each with type, default, documentation, environment variable and example."""

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

C2_PLATFORM = "c2"
"""Name of the platform configured by [c2] and [agent]."""


def _setting(doc: str, *, env: str = "", example: object = None, **limits: Any) -> msgspec.Meta:
    """A setting's documentation, environment variable, example, and constraints on its value."""
    return msgspec.Meta(
        description=doc, extra={"env": env}, examples=[example] if example is not None else None, **limits
    )


class C2Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[c2], or [platform.NAME]: access to a C2."""

    url: Annotated[
        str, _setting("URL of C2's slurmrestd.", env="QSLURM_C2_URL", example="https://c2.example.org:6820")
    ] = ""
    results_url: Annotated[
        str,
        _setting("URL of C2's job manager.", env="QSLURM_RESULTS_URL", example="https://c2.example.org:8042"),
    ] = ""
    user: Annotated[
        str, _setting("The center's user on C2. Default: the token's user.", env="QUSER", example="center_a")
    ] = ""
    token_file: Annotated[
        str,
        _setting(
            "File with the center's token, mode 0600 or 0640.",
            env="QSLURM_TOKEN_FILE",
            example="/etc/qslurm/token",
        ),
    ] = ""
    api_version: Annotated[
        str,
        _setting(
            "API version of C2's slurmrestd; auto negotiates it.", env="QSLURM_API_VERSION", example="v0.0.39"
        ),
    ] = "auto"
    ca_file: Annotated[
        str,
        _setting(
            "PEM file with the certificate authority of C2's certificate.",
            env="QSLURM_CA_FILE",
            example="/etc/qslurm/ca.pem",
        ),
    ] = ""
    pinned_key: Annotated[
        str,
        _setting(
            "Accept only this public key of C2 (in the form of curl's --pinnedpubkey). Without ca_file,"
            " the certificate is not checked otherwise.",
            example="sha256//YhKJKSzoTt2b5FP18fvpHo7fJYqQCjAa3HWY3tvRMwE=",
        ),
    ] = ""
    proxy: Annotated[
        str,
        _setting(
            "HTTP proxy for connections to C2. Proxy variables of the environment are ignored.",
            example="http://proxy:3128",
        ),
    ] = ""
    tls: Annotated[
        Literal["required", "optional"],
        _setting(
            "optional: allow http to other hosts, which sends the token unencrypted.",
            env="QSLURM_TLS",
            example="optional",
        ),
    ] = "required"
    timeout_s: Annotated[float, _setting("Seconds to wait for C2's response.", example=30, gt=0, le=3600)] = (
        30.0
    )

    def endpoint(self, url: str, token: Secret, user: str = "") -> Endpoint:
        """One of C2's two services (`url` or `results_url`), reached as these settings say."""
        from qslurm.slurm.rest.endpoint import Endpoint

        return Endpoint(url, token, user, self.timeout_s, self.ca_file, self.pinned_key, self.proxy)


class PlatformJobSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[platform.NAME.job]: defaults of jobs for this platform, overriding [job]."""

    backend: Annotated[str, _setting("Default backend.", env="QSLURM_BACKEND", example="spin2")] = ""
    shots: Annotated[
        Annotated[int, msgspec.Meta(gt=0)] | None,
        _setting("Number of shots. Default: the backend's.", example=1024),
    ] = None
    time_limit: Annotated[str, _setting("Time limit, as for sbatch.", example="10:00")] = ""
    account: Annotated[str, _setting("Slurm account on C2.", example="center_a")] = ""
    template_folders: Annotated[
        list[str], _setting("Directories with your own templates.", example=["/home/ann/templates"])
    ] = []


class JobSettings(PlatformJobSettings, frozen=True, forbid_unknown_fields=True):
    """[job]: defaults of jobs."""

    platform: Annotated[
        str,
        _setting(
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
    """[agent], or [platform.NAME.agent]: the center's agent. Without one, commands connect to C2 directly."""

    socket: Annotated[
        str,
        _setting(
            "Unix socket of the center's agent. If set, users need no token.",
            env="QSLURM_AGENT",
            example="/run/qslurm-agent/agent.sock",
        ),
    ] = ""
    address: Annotated[
        str,
        _setting(
            "Where compute nodes reach the agent, which knows them by MUNGE.",
            env="QSLURM_AGENT_ADDRESS",
            example="head1:8043",
        ),
    ] = ""
    munge_socket: Annotated[
        str, _setting("munged's socket; by default MUNGE's own.", example="/run/munge/munge.socket.2")
    ] = ""
    state: Annotated[str, _setting("Directory of the agent's outbox.", example="/var/lib/qslurm-agent")] = (
        "/var/lib/qslurm-agent"
    )
    releaser: Annotated[
        str,
        _setting(
            "User of `qslurm agent releaser`, which releases follow-up jobs; none if empty.", example="slurm"
        ),
    ] = ""
    max_open_jobs: Annotated[
        int,
        _setting(
            "Maximum open jobs on C2 per user, counting an array's tasks; 0 for no limit.",
            example=100,
            ge=0,
        ),
    ] = 0
    backends: Annotated[
        list[str], _setting("Backends that users may use; all if empty.", example=["qx", "spin2"])
    ] = []
    accounts: Annotated[
        list[str],
        _setting(
            "Accounts on C2 that users may name, the first for those who name none; any if empty.",
            example=["snellius"],
        ),
    ] = []
    users: Annotated[
        dict[str, UserLimits],
        _setting(
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

PLATFORM_SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "": C2Settings,
    "agent": AgentSettings,
    "job": PlatformJobSettings,
}
"""The sections of one platform: [platform.NAME] and its subtables."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The effective settings of one platform.

    `token`: from the environment, if set. `has_own_token`: the user named a token file. `direct_flag`: a flag that only
    matters without the agent, such as --url, if given. `prefix`: the prefix of this platform's job ids ("tuna:"; "" for
    the default platform). `platforms`: the names of all configured platforms.
    """

    c2: C2Settings = C2Settings()
    job: JobSettings = JobSettings()
    agent: AgentSettings = AgentSettings()
    token: Secret | None = None
    has_own_token: bool = False
    direct_flag: str = ""
    home: Path = Path()
    platform: str = C2_PLATFORM
    prefix: str = ""
    platforms: tuple[str, ...] = (C2_PLATFORM,)

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
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for an unknown user


def section_of(platform: str, table: str = "") -> str:
    """The section of a platform's settings, or of one of its tables (`agent`, `job`)."""
    if platform == C2_PLATFORM:
        return table or C2_PLATFORM
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
