"""Paths of an instance, all below the state folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from testbed import base, users
from testbed.errors import TestbedError

CHECKOUT = Path(__file__).resolve().parents[3]
HOSTS_OWN = "22.05"
"""The release of Slurm that the host has installed: Debian 12's."""

MARK = "QSLURM_TESTBED"
"""In the environment of all that an instance starts; its value is the instance's folder."""


@dataclass(frozen=True)
class Layout:
    """`state` is the state folder, `base` the path by which every user reaches it. C2 runs `slurm`: a release, or the
    absolute path of an installed Slurm.
    """

    state: Path
    name: str
    base: Path
    slurm: str = HOSTS_OWN

    @classmethod
    def of(cls, state: Path, name: str) -> Layout:
        """The layout of an instance; creates the state folder."""
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,15}", name):
            raise TestbedError(
                f"Invalid name {name!r}. Use a lowercase letter, then at most 15 lowercase letters, digits and hyphens."
            )
        state.mkdir(parents=True, exist_ok=True)
        state = state.resolve()
        return cls(state, name, base.choose(state, name))

    @property
    def folder(self) -> Path:
        """The instance's folder, as daemons and jobs see it."""
        return self.base / "testbed" / self.name

    @property
    def home(self) -> Path:
        """The same folder by its path without the bind mount."""
        return self.state / "testbed" / self.name

    @property
    def saved_state(self) -> Path:
        """Ports and passwords, kept from one `up` to the next."""
        return self.home / "instance.json"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def records(self) -> Path:
        """A file for each started daemon."""
        return self.home / "daemons"

    @property
    def python(self) -> Path:
        """The interpreter of the environment with the project."""
        return self.base / "venv" / "bin" / "python"

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def c1_conf(self) -> Path:
        return self.folder / "etc" / "c1" / "slurm.conf"

    @property
    def c2_conf(self) -> Path:
        return self.folder / "etc" / "c2" / "slurm.conf"

    @property
    def c1_qslurm(self) -> Path:
        return self.folder / "etc" / "c1" / "config.toml"

    @property
    def c2_qslurm(self) -> Path:
        return self.folder / "etc" / "c2" / "c2.toml"

    @property
    def token(self) -> Path:
        """The token of center snellius on C1."""
        return self.folder / "etc" / "c1" / "token"

    @property
    def agent_config(self) -> Path:
        """C1's configuration with an agent."""
        return self.folder / "etc" / "c1" / "agent.toml"

    @property
    def agent_token(self) -> Path:
        """The token that only the agent may read."""
        return self.folder / "etc" / "c1" / "agent" / "token"

    @property
    def agent_socket(self) -> Path:
        return self.run / "agent" / "agent.sock"

    @property
    def agent_state(self) -> Path:
        return self.folder / "agent"

    @property
    def keys(self) -> Path:
        return self.folder / "etc" / "c2" / "keys"

    @property
    def jwks(self) -> Path:
        return self.folder / "etc" / "c2" / "jwks.json"

    @property
    def tokens_socket(self) -> Path:
        return self.run / "tokens" / "tokens.sock"

    @property
    def hooks(self) -> Path:
        return self.folder / "libexec"

    @property
    def database(self) -> Path:
        return self.folder / "db"

    @property
    def database_name(self) -> str:
        """slurmdbd's database; each release has its own."""
        return f"slurm_acct_db{self._of_release('c2').translate({45: '_', 46: ''})}"

    @property
    def store(self) -> Path:
        return self.folder / "store" / "store.db"

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    @property
    def job_logs(self) -> Path:
        """<job_logs>/<user>/<job_id>.out: the output of C2's jobs."""
        return self.folder / "joblogs"

    @property
    def work(self) -> Path:
        """<work>/<user>: where C2's jobs run."""
        return self.folder / "work"

    def researcher_home(self, user: str) -> Path:
        """The home folder of a user of C1."""
        return self.folder / "home" / user

    def munge_socket(self, cluster: str) -> Path:
        return self.run / "munge" / f"{cluster}.sock"

    def munge_key(self, cluster: str) -> Path:
        return self.folder / "etc" / "munge" / f"{cluster}.key"

    @property
    def database_socket(self) -> Path:
        return self.run / "c2" / "mariadb.sock"

    @property
    def dispatcher_socket(self) -> Path:
        return self.run / "qslurm" / "dispatcher.sock"

    @property
    def feed_socket(self) -> Path:
        return self.dispatcher_socket.with_name("feed.sock")

    @property
    def runtimes_socket(self) -> Path:
        return self.run / "runtimes" / "warm.sock"

    @property
    def slurm_programs(self) -> Path:
        """The programs of C2's Slurm, if it is not the host's, and `plugins`, the folder of its plug-ins."""
        return self.folder / f"slurm-{self._slurm_label}"

    def slurm_program(self, cluster: str, name: str) -> Path:
        """The path of a daemon or command of a cluster's Slurm."""
        if self.has_own_slurm(cluster):
            return self.slurm_programs / name
        daemons = ("slurmctld", "slurmd", "slurmdbd", "slurmrestd")
        return Path("/usr/sbin" if name in daemons else "/usr/bin") / name

    def has_own_slurm(self, cluster: str) -> bool:
        """Whether the cluster runs another Slurm than the host's."""
        return cluster == "c2" and self.slurm != HOSTS_OWN

    def spool(self, cluster: str) -> Path:
        return self.folder / cluster / f"spool{self._of_release(cluster)}"

    def slurm_state(self, cluster: str) -> Path:
        return self.folder / cluster / f"state{self._of_release(cluster)}"

    def _of_release(self, cluster: str) -> str:
        """A suffix for each release's files: no release reads all files of another."""
        return f"-{self._slurm_label}" if self.has_own_slurm(cluster) else ""

    @property
    def _slurm_label(self) -> str:
        """A short name of C2's Slurm for file and database names."""
        if not self.slurm.startswith("/"):
            return self.slurm
        return f"at-{hashlib.sha256(self.slurm.encode()).hexdigest()[:8]}"

    def make_folders(self) -> None:
        """Create every folder with its owner and mode, if it is missing."""
        for path in (self.state / "testbed", self.home, self.records):
            path.mkdir(mode=0o755, exist_ok=True)
        root, slurm, munge, service = "root", users.SLURM, users.MUNGE, users.SERVICE
        plan: list[tuple[Path, str, str, int]] = [
            (self.programs, root, root, 0o755),
            (self.run, root, root, 0o755),
            (self.run / "munge", munge, munge, 0o755),
            (self.run / "c1", slurm, slurm, 0o755),
            (self.run / "c2", slurm, slurm, 0o755),
            (self.run / "qslurm", service, service, 0o755),
            (self.run / "runtimes", root, root, 0o755),
            (self.run / "agent", users.AGENT, users.AGENT, 0o755),
            (self.run / "tokens", users.TOKENS, users.TOKENS, 0o755),
            (self.agent_state, users.AGENT, users.AGENT, 0o700),
            (self.logs, root, root, 0o755),
            (self.logs / "c1", slurm, slurm, 0o755),
            (self.logs / "c2", slurm, slurm, 0o755),
            (self.logs / "munge", munge, munge, 0o700),
            (self.folder / "etc", root, root, 0o755),
            (self.folder / "etc" / "c1", root, root, 0o755),
            (self.agent_token.parent, users.AGENT, users.AGENT, 0o700),
            (self.folder / "etc" / "c2", root, root, 0o755),
            (self.folder / "etc" / "munge", munge, munge, 0o700),
            (self.keys, users.TOKENS, users.TOKENS, 0o700),
            (self.hooks, root, root, 0o755),
            (self.database, slurm, slurm, 0o700),
            (self.store.parent, service, service, 0o755),
            (self.gate, slurm, slurm, 0o755),
            (self.gate / "turned-away", slurm, slurm, 0o755),
            (self.gate / "finish", slurm, slurm, 0o755),
            (self.folder / "home", root, root, 0o755),
            (self.work, root, root, 0o755),
            (self.job_logs, root, root, 0o755),
            *((self.researcher_home(user), user, users.RESEARCH_GROUP, 0o755) for user in users.RESEARCHERS),
            *((self.work / user, user, user, 0o700) for user in users.CENTER_USERS),
            # Slurm writes there as the job's user; files get the folder's group, so the job manager can read
            *((self.job_logs / user, user, service, 0o2770) for user in users.CENTER_USERS),
        ]
        for cluster in ("c1", "c2"):
            plan += [
                (self.folder / cluster, root, root, 0o755),
                (self.slurm_state(cluster), slurm, slurm, 0o700),
                (self.spool(cluster), root, root, 0o755),
            ]
        for path, user, group, mode in plan:
            path.mkdir(exist_ok=True)
            shutil.chown(path, user, group)
            path.chmod(mode)


def write(path: Path, text: str, *, mode: int = 0o644, user: str = "root", group: str = "root") -> None:
    """Write a file atomically; a file with the same content and mode is not touched."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    shutil.chown(temporary, user, group)
    temporary.chmod(mode)
    if path.exists() and path.read_text() == text and _same_rights(path, temporary):
        temporary.unlink()
    else:
        temporary.replace(path)


def _same_rights(one: Path, other: Path) -> bool:
    left, right = one.stat(), other.stat()
    return (left.st_mode, left.st_uid, left.st_gid) == (right.st_mode, right.st_uid, right.st_gid)
