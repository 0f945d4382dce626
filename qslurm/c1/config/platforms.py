"""Which platforms a center's configuration names, which of them is meant, and what holds for each.

`[c2]` with `[agent]` is the platform called c2; each `[platform.NAME]` is another. A setting of the environment is
about the one platform that the environment means, and so is a flag: what one platform's operators must not
see (a token above all) never goes to another because both are in sight.
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
    FIRST,
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
WAYS = ("QSLURM_C2_URL", "QSLURM_AGENT", "QSLURM_AGENT_ADDRESS")
"""What the environment needs to say to make a platform of its own."""

PATHS = ("token_file", "ca_file", "socket")
"""What names a file, which may have any bytes in its name; everything else is text."""

OF_THE_WAY = ("url", "user", "api_version", "results_url")
"""Flags that say how C2 is reached, and as whom."""


def load_platforms(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Platforms:
    """All platforms, from flags (by a setting's name), environment and files; see `load_config` for the errors."""
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or "/")
    written: Sections = {}
    for file, needed in _files(environ, home, system_file):
        for section, values in read_file(file, needed=needed).items():
            written.setdefault(section, {}).update(values)
    refuse_shared_agents(written)
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    return Platforms(written, given, environ, home)


@dataclass(frozen=True)
class Platforms:
    """The platforms that there are. Nothing of one is looked at before somebody asks for it."""

    written: Sections
    flags: Mapping[str, object]
    environ: Mapping[str, str] = field(repr=False)
    home: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All of them, the usual one first, the others as they stand in the files."""
        names = [section.split(".")[1] for section in self.written if section.count(".") == 1]
        if not names or self.written.get(FIRST) or self.written.get("agent") or self._first_by_hand(names):
            names.insert(0, FIRST)
        names.sort(key=lambda name: name != self._usual(names))
        return tuple(names)

    @cached_property
    def usual(self) -> str:
        """The platform of which an id by itself is: as the environment says, else the files; nothing if none do."""
        return self._usual(list(self.names))

    @property
    def said(self) -> str:
        """The one platform that a flag or the environment names; ConfigError if it is none."""
        name = str(self.flags.get("platform") or self.environ.get(PLATFORM_VARIABLE) or "")
        if name:
            self._require(name)
        return name

    @property
    def wanted(self) -> tuple[str, ...]:
        """The platforms to look at: the one that was named, by name or by what only one can have, or all."""
        if self.said:
            return (self.said,)
        if self.usual:
            self._require(self.usual)
        only = any(name in self.flags for name in ("url", "user", "token_file", "results_url"))
        return (self._chosen(),) if only else self.names

    def config(self, name: str = "") -> Config:
        """What holds for a platform, by default the one that is meant.

        ConfigError if there is none of this name, nobody said which, or a value is of the wrong kind.
        """
        name = name or self._chosen()
        self._require(name)
        values = {"c2": self._held(name), "agent": self._held(name, "agent"), "job": self._held(name, "job")}
        if name != FIRST and "state" not in values["agent"]:
            values["agent"]["state"] = f"{AgentSettings().state}-{name}"
        for setting in settings():
            if (value := self._given(setting, name)) is not None:
                if setting.name not in PATHS and value != without_surrogates(str(value)):
                    raise ConfigError(f"{setting.name} is {value!r:.60}, which is not UTF-8 text.")
                values[setting.section][setting.name] = value
        told = "the flags and the environment"
        by_environment = name == self._of_environment
        flagged = "token_file" in self.flags and name == self._of_flags
        token = self.environ.get(TOKEN_VARIABLE, "").strip() if by_environment and not flagged else ""
        return Config(
            checked(C2Settings, section_of(name), values["c2"], told),
            checked(JobSettings, section_of(name, "job"), values["job"], told),
            checked(AgentSettings, section_of(name, "agent"), values["agent"], told),
            token=Secret(token) if token else None,
            own_token=flagged or bool(by_environment and self.environ.get("QSLURM_TOKEN_FILE")),
            own_way=next((f"--{flag.replace('_', '-')}" for flag in OF_THE_WAY if flag in self.flags), ""),
            home=self.home,
            platform=name,
            prefix="" if name == self.usual else f"{name}:",
            platforms=self.names,
        )

    def _held(self, name: str, table: str = "") -> dict[str, Any]:
        """What the files say; of [job] everything holds for every platform that does not say otherwise."""
        general = self.written.get("job", {}) if table == "job" else {}
        return {**general, **self.written.get(section_of(name, table), {})}

    def _given(self, setting: Setting, name: str) -> object:
        """What a flag or the environment says of a setting, if it is about this platform."""
        everywhere = setting.section == "job"
        if setting.name in self.flags and (everywhere or name == self._of_flags):
            return self.flags[setting.name]
        if setting.env and (everywhere or name == self._of_environment):
            return self.environ.get(setting.env) or None
        return None

    def _usual(self, names: list[str]) -> str:
        said = self.environ.get(PLATFORM_VARIABLE) or self.written.get("job", {}).get("platform", "")
        return said or (FIRST if FIRST in names else names[0] if len(names) == 1 else "")

    def _first_by_hand(self, others: list[str]) -> bool:
        """Whether flags or the environment alone say where the platform called c2 is."""
        if self._usual(others):
            return False
        flagged = "url" in self.flags and "platform" not in self.flags
        return flagged or any(self.environ.get(name) for name in WAYS)

    @property
    def _of_environment(self) -> str:
        return self.usual

    @property
    def _of_flags(self) -> str:
        return str(self.flags.get("platform") or self.usual)

    def _chosen(self) -> str:
        if not (name := str(self.flags.get("platform") or self.usual)):
            raise ConfigError(
                "Nobody said which platform.",
                hint=f"Say --platform NAME ({', '.join(self.names)}),"
                " or set platform under [job] in the configuration.",
            )
        return name

    def _require(self, name: str) -> None:
        if name in self.names:
            return
        known = list(self.names)
        raise ConfigError(f"There is no platform {name[:40]!r} here.", hint=nearest(name, known, "{}"))


def _files(environ: Mapping[str, str], home: Path, system_file: Path) -> Iterator[tuple[Path, bool]]:
    """The files to read, the weakest first, and whether each must be there."""
    if environ.get(FILE_VARIABLE):
        yield expanded(environ[FILE_VARIABLE]), True
        return
    yield system_file, False
    own = home / ".config" / "qslurm" / "config.toml"
    if _is_for_this_user(own):
        yield own, False


def _is_for_this_user(file: Path) -> bool:
    """Whether a file can be read, or is the user's own: $HOME may be another's (sudo, setpriv, a service)."""
    try:
        return os.access(file, os.R_OK) or file.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def refuse_shared_agents(written: Sections) -> None:
    """ConfigError for two platforms with one agent: it would take one's jobs to the other."""
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
                    hint="Each platform has an agent of its own.",
                )
