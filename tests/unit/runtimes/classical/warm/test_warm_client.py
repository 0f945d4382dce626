"""The step's light half: what it carries, counts, and says of an end."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from qslurm.c2.config.runtimes_section import RuntimesConfig
from qslurm.runtimes.classical.warm import warm_client
from qslurm.runtimes.classical.warm.client_files import remove_client, write_client
from qslurm.runtimes.classical.warm.warm_client import OutputCopier, signal_reason


def copied(data: bytes, limit: int, target: Path) -> tuple[OutputCopier, bytes]:
    source, sink = os.pipe()
    with target.open("wb") as file:
        copier = OutputCopier({source: file.fileno()}, limit)
        os.write(sink, data)
        os.close(sink)
        while copier.open and copier.copy(source):
            pass
    os.close(source)
    return copier, target.read_bytes() if target.is_file() else b""


def test_what_is_printed_arrives(tmp_path: Path) -> None:
    copier, written = copied(b"found\n" * 100, 10_000, tmp_path / "out")
    assert (written, copier.error, copier.open) == (b"found\n" * 100, "", {})


def test_no_more_than_allowed_is_written(tmp_path: Path) -> None:
    copier, written = copied(b"x" * 1000, 100, tmp_path / "out")
    assert written == b"x" * 100
    assert "printed more than" in copier.error


def test_a_full_disk_is_said_and_not_tried_again() -> None:
    copier, _ = copied(b"x", 100, Path("/dev/full"))
    assert "No space left" in copier.error


def test_an_end_by_a_signal_has_a_sentence() -> None:
    assert "signal 11." in signal_reason(11)
    assert "memory" in signal_reason(9)


def test_it_runs_as_a_bare_file_and_imports_next_to_nothing() -> None:
    file = str(Path(warm_client.__file__))
    code = f"import sys; exec(open({file!r}).read(), {{'__name__': 'it'}}); print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert not {"socket", "enum", "re", "subprocess", "site"} & set(done.stdout.split())


def log_of(folder: Path, *, separate: bool) -> tuple[bytes, bytes]:
    """The log (and that of errors) of a job that writes to stderr, stdout, and stderr again before any is read."""
    path = str(folder / "service")
    out, err = folder / "out", folder / ("err" if separate else "out")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as service,
        out.open("ab") as o,
        err.open("ab") as e,
    ):
        service.bind(path)
        service.listen()
        with subprocess.Popen(
            [sys.executable, warm_client.__file__, path, sys.executable, "job"], stdout=o, stderr=e
        ) as job:
            connection, _ = service.accept()
            with connection:
                _, (request, stdin, to_out, to_err), _, _ = socket.recv_fds(connection, 100, 4)
                for fd, line in ((to_err, b"1\n"), (to_out, b"2\n"), (to_err, b"3\n")):
                    os.write(fd, line)
                for fd in (request, stdin, to_out, to_err):
                    os.close(fd)
                for word in (b"began 1000", b"exit %d" % warm_client.DONE):
                    connection.send(word)
                assert job.wait(30) == 0
    return out.read_bytes(), err.read_bytes()


def test_lines_of_both_kinds_come_in_their_order_where_both_go_to_one_file(tmp_path: Path) -> None:
    assert log_of(tmp_path, separate=False)[0] == b"1\n2\n3\n"


def test_lines_of_each_kind_go_to_their_own_file_where_there_are_two(tmp_path: Path) -> None:
    assert log_of(tmp_path, separate=True) == (b"2\n", b"1\n3\n")


def test_its_starter_runs_it_with_the_python_that_has_qslurm_behind_it(tmp_path: Path) -> None:
    settings = RuntimesConfig(socket=str(tmp_path / "it's here" / "warm.sock"))
    settings.client.parent.mkdir()
    write_client(settings)
    shell = f". {shlex.quote(str(settings.starter))}; echo not started"
    command = ["sh", "-c", shell, "sh", "no-such-job.sh"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (
        "no warm runtime available; starting one" in done.stderr
    )  # there is no service, so it became the step
    assert "not started" not in done.stdout
    remove_client(settings)
    assert list(settings.client.parent.iterdir()) == []
