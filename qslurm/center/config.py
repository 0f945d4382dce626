"""How a center says where C2 is and who it is there: one table of settings, four places they come from.

A flag wins over the environment, that over the user's file, that over the center's file. `$QSLURM_CONFIG`
names the one file that is read instead of the two. Each setting is declared once, here, with its type,
default, meaning and environment variable; `settings()` gives them to whoever documents them.
"""

from __future__ import annotations

import difflib
import os
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import msgspec

from qslurm.bounded import read_bounded
from qslurm.errors import ConfigError, TokenError
from qslurm.payload.templates import user_folder
from qslurm.tokens.secret import Secret

SYSTEM_FILE = Path("/etc/qslurm/config.toml")
TOKEN_VARIABLE = "SLURM_JWT"  # noqa: S105 - the variable's name
FILE_VARIABLE = "QSLURM_CONFIG"
LARGEST = 1024 * 1024
"""Bytes of a configuration file."""


def _said(doc: str, *, env: str = "", example: object = None, **limits: Any) -> msgspec.Meta:
    """What is written beside a setting: its meaning, its environment variable, an example, limits to its
    value.
    """
    return msgspec.Meta(
        description=doc, extra={"env": env}, examples=[example] if example is not None else None, **limits
    )


class C2Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[c2]: the way to C2."""

    url: Annotated[
        str, _said("URL of C2's slurmrestd.", env="QSLURM_C2_URL", example="https://c2.example.org:6820")
    ] = ""
    results_url: Annotated[
        str,
        _said("URL of C2's job manager.", env="QSLURM_RESULTS_URL", example="https://c2.example.org:8042"),
    ] = ""
    user: Annotated[
        str, _said("The center's user on C2; by default the token's.", env="QUSER", example="center_a")
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
        _said("API version of C2's slurmrestd; auto asks it.", env="QSLURM_API_VERSION", example="v0.0.39"),
    ] = "auto"
    ca_file: Annotated[
        str,
        _said(
            "Certificate authority that C2's certificate is checked with.",
            env="QSLURM_CA_FILE",
            example="/etc/qslurm/ca.pem",
        ),
    ] = ""
    proxy: Annotated[
        str,
        _said(
            "HTTP proxy on the way to C2; none is taken from the environment.", example="http://proxy:3128"
        ),
    ] = ""
    timeout_s: Annotated[
        float, _said("Seconds that an answer of C2 may take to begin.", example=30, gt=0, le=3600)
    ] = 30.0


class JobSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[job]: what a job is given when its submitter does not say."""

    backend: Annotated[str, _said("Backend that jobs go to.", env="QSLURM_BACKEND", example="spin2")] = ""
    shots: Annotated[
        Annotated[int, msgspec.Meta(gt=0)] | None,
        _said("Shots of a circuit; by default the backend's.", example=1024),
    ] = None
    time_limit: Annotated[str, _said("Time limit, as sbatch takes it.", example="10:00")] = ""
    account: Annotated[str, _said("Slurm account on C2.", example="center_a")] = ""
    template_folders: Annotated[
        list[str], _said("Folders with templates of your own.", example=["/home/ann/templates"])
    ] = []


class AgentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[agent]: the center's agent, which holds the token for its users. Without it commands talk to C2 themselves."""

    socket: Annotated[
        str,
        _said(
            "Unix socket of the center's agent; where it is set, users need no token.",
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
    state: Annotated[
        str, _said("Folder in which the agent keeps what is to be sent.", example="/var/lib/qslurm-agent")
    ] = "/var/lib/qslurm-agent"
    max_open_jobs: Annotated[
        int, _said("Jobs that one user may have open on C2; 0 for any number.", example=100, ge=0)
    ] = 0
    backends: Annotated[
        list[str], _said("Backends that users may name; all of C2's if empty.", example=["qx", "spin2"])
    ] = []


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings.

    `token` is the one that the environment gave, if it did; `own_token` says that the user has named a token's file.
    """

    c2: C2Settings = C2Settings()
    job: JobSettings = JobSettings()
    agent: AgentSettings = AgentSettings()
    token: Secret | None = None
    own_token: bool = False
    home: Path = Path()

    def template_folders(self) -> list[Path]:
        """Where templates are looked for, before the shipped ones."""
        own = user_folder(self.home)
        return [*(Path(folder).expanduser() for folder in self.job.template_folders), own]


@dataclass(frozen=True)
class Setting:
    """One setting, as documentation needs it."""

    section: str
    name: str
    doc: str
    default: object
    env: str = ""
    example: object = None


_Section = TypeVar("_Section", bound=msgspec.Struct)
_SECTIONS: dict[str, type[msgspec.Struct]] = {"c2": C2Settings, "job": JobSettings, "agent": AgentSettings}


def settings() -> Iterator[Setting]:
    """All settings there are, in the order in which they are documented."""
    for section, struct in _SECTIONS.items():
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            said = next(part for part in get_args(hints[field.name]) if isinstance(part, msgspec.Meta))
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            yield Setting(
                section,
                field.name,
                said.description or "",
                default,
                (said.extra or {}).get("env", ""),
                said.examples[0] if said.examples else None,
            )


def load_config(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    system_file: Path = SYSTEM_FILE,
) -> Config:
    """The settings, from flags (by a setting's name), environment and files.

    ConfigError for a file that can't be read, a name that is no setting (with the nearest that is), or a
    value of the wrong kind. Nothing is checked for being there: whoever needs a setting says so.
    """
    environ = os.environ if environ is None else environ
    home = Path(environ.get("HOME") or "/")
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for file, needed in _files(environ, home, system_file):
        for section, names in _read(file, needed).items():
            values[section].update(names)
    for setting in settings():
        if setting.env and environ.get(setting.env):
            values[setting.section][setting.name] = environ[setting.env]
        if flags and flags.get(setting.name) is not None:
            values[setting.section][setting.name] = flags[setting.name]
    told = "the flags and the environment"
    c2 = _checked(C2Settings, "c2", values["c2"], told)
    job = _checked(JobSettings, "job", values["job"], told)
    agent = _checked(AgentSettings, "agent", values["agent"], told)
    token = environ.get(TOKEN_VARIABLE, "").strip()
    flagged = bool(flags and flags.get("token_file"))
    own_token = flagged or bool(environ.get("QSLURM_TOKEN_FILE"))
    given = Secret(token) if token and not flagged else None
    return Config(c2, job, agent, token=given, own_token=own_token, home=home)


def load_token(config: Config) -> Secret:
    """The center's token, from the environment or its file, refused when it can't be good.

    TokenError when there is none, when others can read its file, when it is no token or has expired.
    """
    from qslurm.tokens.check import refuse_expired
    from qslurm.tokens.claims import inspect
    from qslurm.tokens.files import clean, read_token

    if config.token is not None:
        token = clean(config.token.reveal())
    elif config.c2.token_file:
        token = read_token(Path(config.c2.token_file).expanduser())
    else:
        raise TokenError(
            "There is no token for C2.",
            hint="Set QSLURM_TOKEN_FILE to the token's file, or token_file under [c2] in the configuration,"
            " or SLURM_JWT to the token itself.",
        )
    refuse_expired(inspect(token.reveal(), user=config.c2.user), time.time())
    return token


def require_url(config: Config) -> str:
    """C2's URL; ConfigError when nobody said it."""
    if not config.c2.url:
        raise ConfigError(
            "Nobody said where C2 is.",
            hint="Set QSLURM_C2_URL, or url under [c2] in the configuration, or give --url.",
        )
    return config.c2.url


def _files(environ: Mapping[str, str], home: Path, system_file: Path) -> list[tuple[Path, bool]]:
    """The files to read, the weakest first, and whether each must be there."""
    if environ.get(FILE_VARIABLE):
        return [(Path(environ[FILE_VARIABLE]).expanduser(), True)]
    return [(system_file, False), (home / ".config" / "qslurm" / "config.toml", False)]


def _read(file: Path, needed: bool) -> dict[str, dict[str, Any]]:
    try:
        data = read_bounded(file, LARGEST)
        if len(data) > LARGEST:
            raise ConfigError(f"{file} is no configuration file: it is larger than {LARGEST >> 20} MiB.")
        document = tomllib.loads(data.decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not needed:
            return {}
        raise ConfigError(
            f"There is no configuration file {file}.", hint=f"{FILE_VARIABLE} names it."
        ) from error
    except OSError as error:
        raise ConfigError(f"The configuration file {file} can't be read: {error.strerror}.") from error
    except RecursionError as error:
        raise ConfigError(f"The configuration file {file} is nested too deeply.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {file} is not TOML: {error}.") from error
    for section, names in document.items():
        if section not in _SECTIONS:
            raise ConfigError(f"{file}: [{section}] is no section.", hint=_hint_for_section(section))
        if not isinstance(names, dict):
            raise ConfigError(f"{file}: {section} must be a section, [{section}].")
        _checked(_SECTIONS[section], section, names, str(file))
    return document


def _checked(struct: type[_Section], section: str, values: Mapping[str, Any], where: str) -> _Section:
    """A section's values as its struct; ConfigError that says which name, in which place, and what is wrong."""
    known = [field.name for field in msgspec.structs.fields(struct)]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
            raise ConfigError(f"{where}: {name} under [{section}] is no setting.", hint=hint)
    try:
        return msgspec.convert(dict(values), struct)
    except msgspec.ValidationError as error:
        words, _, path = str(error).partition(" - at ")
        name = re.sub(r"^`\$\.|`$", "", path)
        raise ConfigError(f"{where}: {name} under [{section}]: {words[0].lower()}{words[1:]}.") from error


def _hint_for_section(section: str) -> str:
    """The nearest section, or the section a setting that stands outside one belongs to."""
    for setting in settings():
        if setting.name == section:
            return f"It belongs under [{setting.section}]."
    near = difflib.get_close_matches(section, _SECTIONS, n=1)
    return (
        f"Did you mean [{near[0]}]?" if near else f"There are {', '.join(f'[{name}]' for name in _SECTIONS)}."
    )
