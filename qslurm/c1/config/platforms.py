"""The platforms of a center's configuration, the selected one, and the settings of each.

`[c2]` with `[agent]` is the platform named c2; each `[platform.NAME]` is another. Environment variables apply only to
the platform that the environment selects, flags only to the one that flags select: so a token never goes to another
platform.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from qslurm.c1.config.file_sections import FILE_VARIABLE, Sections, checked, nearest, read_file
from qslurm.c1.config.settings import (
    C2_PLATFORM,
    AgentSettings,
    C2Settings,
    Config,
    JobSettings,
    Setting,
    expanded,
    section_of,
    settings,
)
from qslurm.errors import ConfigError
from qslurm.system.encoding_errors import without_surrogates
from qslurm.tokens.secret import Secret

SYSTEM_FILE = Path("/etc/qslurm/config.toml")
TOKEN_VARIABLE = "SLURM_JWT"  # noqa: S105 - the variable's name
PLATFORM_VARIABLE = "QSLURM_PLATFORM"
DEFINING_VARIABLES = ("QSLURM_C2_URL", "QSLURM_AGENT", "QSLURM_AGENT_ADDRESS")
"""Environment variables that define a platform by themselves."""

PATHS = ("token_file", "ca_file", "socket")
"""Settings that name a file, whose name may contain any bytes; all others are text."""

DIRECT_FLAGS = ("url", "user", "api_version", "results_url")
"""Flags that determine how C2 is reached, and as which user."""


def load_platforms(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Platforms:
    """Load all platforms, from flags (by a setting's name), the environment and files; errors as for `load_config`."""
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or "/")
    written: Sections = {}
    for file, needed in _files(environ, home, system_file):
        for section, values in read_file(file, needed=needed).items():
            written.setdefault(section, {}).update(values)
    refuse_shared_agents(written)
    set_flags = {name: value for name, value in (flags or {}).items() if value is not None}
    return Platforms(written, set_flags, environ, home)


@dataclass(frozen=True)
class Platforms:
    """The configured platforms. A platform's settings are checked on first use."""

    written: Sections
    flags: Mapping[str, object]
    environ: Mapping[str, str] = field(repr=False)
    home: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names, the default platform first, the others in file order."""
        names = [section.split(".")[1] for section in self.written if section.count(".") == 1]
        if (
            not names
            or self.written.get(C2_PLATFORM)
            or self.written.get("agent")
            or self._is_c2_defined(names)
        ):
            names.insert(0, C2_PLATFORM)
        names.sort(key=lambda name: name != self._default(names))
        return tuple(names)

    @cached_property
    def default(self) -> str:
        """The platform of ids without a prefix: from the environment, else the files; "" if neither names one."""
        return self._default(list(self.names))

    @property
    def selected(self) -> str:
        """The platform that a flag or the environment selects; ConfigError if it is unknown."""
        name = str(self.flags.get("platform") or self.environ.get(PLATFORM_VARIABLE) or "")
        if name:
            self._require(name)
        return name

    @property
    def wanted(self) -> tuple[str, ...]:
        """The platforms to query: the one selected by name or by a flag for only one, or all."""
        if self.selected:
            return (self.selected,)
        if self.default:
            self._require(self.default)
        only = any(name in self.flags for name in ("url", "user", "token_file", "results_url"))
        return (self._chosen(),) if only else self.names

    def config(self, name: str = "") -> Config:
        """The settings of a platform, by default the selected one.

        ConfigError if it is unknown, none is selected, or a value has the wrong type.
        """
        name = name or self._chosen()
        self._require(name)
        values = {"c2": self._held(name), "agent": self._held(name, "agent"), "job": self._held(name, "job")}
        if name != C2_PLATFORM and "state" not in values["agent"]:
            values["agent"]["state"] = f"{AgentSettings().state}-{name}"
        for setting in settings():
            if (value := self._given(setting, name)) is not None:
                if setting.name not in PATHS and value != without_surrogates(str(value)):
                    raise ConfigError(f"{setting.name} is {value!r:.60}, which is not valid UTF-8.")
                values[setting.section][setting.name] = value
        source = "the flags and the environment"
        by_environment = name == self._environment_platform
        flagged = "token_file" in self.flags and name == self._flags_platform
        token = self.environ.get(TOKEN_VARIABLE, "").strip() if by_environment and not flagged else ""
        return Config(
            checked(C2Settings, section_of(name), values["c2"], source),
            checked(JobSettings, section_of(name, "job"), values["job"], source),
            checked(AgentSettings, section_of(name, "agent"), values["agent"], source),
            token=Secret(token) if token else None,
            has_own_token=flagged or bool(by_environment and self.environ.get("QSLURM_TOKEN_FILE")),
            direct_flag=next(
                (f"--{flag.replace('_', '-')}" for flag in DIRECT_FLAGS if flag in self.flags), ""
            ),
            home=self.home,
            platform=name,
            prefix="" if name == self.default else f"{name}:",
            platforms=self.names,
        )

    def _held(self, name: str, table: str = "") -> dict[str, Any]:
        """The files' settings; [job] applies to every platform that does not override it."""
        general = self.written.get("job", {}) if table == "job" else {}
        return {**general, **self.written.get(section_of(name, table), {})}

    def _given(self, setting: Setting, name: str) -> object:
        """A flag's or the environment's value for a setting, if it applies to this platform."""
        everywhere = setting.section == "job"
        if setting.name in self.flags and (everywhere or name == self._flags_platform):
            return self.flags[setting.name]
        if setting.env and (everywhere or name == self._environment_platform):
            return self.environ.get(setting.env) or None
        return None

    def _default(self, names: list[str]) -> str:
        selected = self.environ.get(PLATFORM_VARIABLE) or self.written.get("job", {}).get("platform", "")
        return selected or (C2_PLATFORM if C2_PLATFORM in names else names[0] if len(names) == 1 else "")

    def _is_c2_defined(self, others: list[str]) -> bool:
        """Whether flags or the environment alone define the platform c2."""
        if self._default(others):
            return False
        flagged = "url" in self.flags and "platform" not in self.flags
        return flagged or any(self.environ.get(name) for name in DEFINING_VARIABLES)

    @property
    def _environment_platform(self) -> str:
        return self.default

    @property
    def _flags_platform(self) -> str:
        return str(self.flags.get("platform") or self.default)

    def _chosen(self) -> str:
        if not (name := str(self.flags.get("platform") or self.default)):
            raise ConfigError(
                "No platform given.",
                hint=f"Use --platform NAME (configured: {', '.join(self.names)}),"
                " or set platform under [job] in the configuration.",
            )
        return name

    def _require(self, name: str) -> None:
        if name in self.names:
            return
        known = list(self.names)
        raise ConfigError(f"Unknown platform {name[:40]!r}.", hint=nearest(name, known, "{}"))


def _files(environ: Mapping[str, str], home: Path, system_file: Path) -> Iterator[tuple[Path, bool]]:
    """The files to read, lowest precedence first, and whether each must exist."""
    if environ.get(FILE_VARIABLE):
        yield expanded(environ[FILE_VARIABLE]), True
        return
    yield system_file, False
    own = home / ".config" / "qslurm" / "config.toml"
    if _is_for_this_user(own):
        yield own, False


def _is_for_this_user(file: Path) -> bool:
    """Whether a file is readable, or owned by this user: $HOME may be another user's (sudo, setpriv, a service)."""
    try:
        return os.access(file, os.R_OK) or file.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def refuse_shared_agents(written: Sections) -> None:
    """ConfigError if two platforms share an agent, which would submit one's jobs to the other."""
    places: dict[tuple[str, object], str] = {}
    for section, values in written.items():
        if section.rpartition(".")[2] != "agent":
            continue
        for name in ("socket", "address", "state"):
            if not (place := values.get(name)):
                continue
            other = places.setdefault((name, place), section)
            if other != section:
                raise ConfigError(
                    f"[{other}] and [{section}] have the same {name}.",
                    hint="Each platform needs its own agent.",
                )
