"""MariaDB for slurmdbd: its command, its files, and its initial SQL."""

from __future__ import annotations

import shutil
from pathlib import Path

from testbed import users
from testbed.command import checked, clean, run
from testbed.layout import Layout, write
from testbed.saved_state import SavedState


def prepare(layout: Layout, saved: SavedState) -> None:
    """Create the data folder if it is missing or incomplete."""
    data, half = layout.database / "data", layout.database / "half"
    (layout.database / "tmp").mkdir(exist_ok=True)
    shutil.chown(layout.database / "tmp", users.SLURM, users.SLURM)
    write(_first(layout), _sql(layout, saved), mode=0o400, user=users.SLURM, group=users.SLURM)
    if data.exists():
        return
    shutil.rmtree(half, ignore_errors=True)
    install = (
        "mariadb-install-db",
        "--no-defaults",
        f"--user={users.SLURM}",
        f"--datadir={half}",
        f"--tmpdir={layout.database / 'tmp'}",
        "--skip-test-db",
        "--skip-name-resolve",
        "--force",  # also where nobody knows this host's name: only its socket is used
        "--auth-root-authentication-method=socket",
        "--auth-root-socket-user=root",
        *_SMALL,
    )
    checked(run(install, environment=clean(), timeout_s=120))
    half.rename(data)


_SMALL = ("--innodb-log-file-size=16M", "--innodb-buffer-pool-size=128M")


def command(layout: Layout, saved: SavedState) -> tuple[str | Path, ...]:
    """mariadbd's command: on loopback, without the host's configuration."""
    return (
        "/usr/sbin/mariadbd",
        "--no-defaults",
        f"--datadir={layout.database / 'data'}",
        f"--tmpdir={layout.database / 'tmp'}",
        f"--socket={layout.database_socket}",
        f"--pid-file={layout.database / 'mariadbd.pid'}",
        f"--init-file={_first(layout)}",
        f"--port={saved.ports['database']}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--innodb-lock-wait-timeout=900",
        "--innodb-flush-log-at-trx-commit=2",
        *_SMALL,
    )


def _first(layout: Layout) -> Path:
    return layout.database / "first.sql"


def _sql(layout: Layout, saved: SavedState) -> str:
    """Executed at each start, before connections are accepted; the password is hexadecimal."""
    return (
        f"CREATE DATABASE IF NOT EXISTS {layout.database_name};\n"
        f"CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY '{saved.password}';\n"
        f"GRANT ALL ON {layout.database_name}.* TO 'slurm'@'127.0.0.1';\n"
    )
