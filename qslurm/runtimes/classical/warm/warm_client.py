"""A job's step while a warm runtime does its work: requests the runtime, and takes its place within Slurm's job.

It runs as the job's user, compiled and without site-packages (`python -I -S client.pyc SOCKET PYTHON SCRIPT`;
for a script to run, `… --script SCRIPT ARGUMENT…`), and imports next to nothing, since every start of a job
waits for it. The runtime's output passes through it, to be counted. When this process ends, for whatever
reason, the runtime is ended with it; signals are forwarded. Without a runtime, the step is started cold.
"""

import _signal
import _socket
import posix  # not os: importing it takes a tenth of the whole time
import select
import sys

START_WAIT_S = 2.0
"""Without a runtime after this long the step starts one itself."""
DRAIN_S = 5.0
CHUNK = 65536
FORWARDED_SIGNALS = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)
MESSAGE_LIMIT = 4096
SCRIPT = "--script"
"""Stands before the path of a batch script to run; without it, the script only starts this step."""
MARKER = b"\n#QSLURM-SCRIPT\n"
TOKEN = "QSLURM_STEP_TOKEN"  # noqa: S105 -- a variable's name
"""The variable that gives a second process of a step the session of the first."""
DONE, FAILED = 96, 1
"""Exit codes of a step that is done, or that has reported its failure. Any other code is that of the user's
code, which ended the process before there was a result; so is 0 (os._exit, another program in its place).
"""


def main(arguments: list[str]) -> int:
    """Run the step; returns the exit code."""
    socket_path, python, *step = arguments
    is_script = step[0] == SCRIPT
    token = posix.urandom(16).hex()
    pipes, out, err = output_pipes()
    connection = request_runtime(socket_path, step_request(token, step), out, err)
    for end in {out, err}:
        posix.close(end)
    posix.putenv(TOKEN, token)  # a runtime that arrives too late shares the step's session
    if connection is None:
        sys.stderr.write("qslurm: no warm runtime available; starting one.\n")
        return start_cold(python, step)
    answer = connection.recv(MESSAGE_LIMIT).decode()  # empty: the service has closed the connection
    word, _, limit = answer.partition(" ")
    if word != "began":
        sys.stderr.write(f"qslurm: {answer or 'no warm runtime available'}; starting one.\n")
        return start_cold(python, step)
    forwarded: list[int] = []
    code, reason = exit_of(supervise(connection, pipes, int(limit), forwarded), forwarded, is_script)
    if not reason:
        return code
    if is_script:
        sys.stderr.write(f"qslurm: {reason}\n")
        return code
    for end in pipes:
        # the runtime runs until it is killed, and must not see a broken pipe
        posix.set_inheritable(end, True)
    return start_cold(python, ["--failed", reason, *step])


def output_pipes() -> tuple[dict[int, int], int, int]:
    """Pipes for the runtime's output: where each goes, and the write ends for stdout and stderr.

    It is one pipe if both go to the same file, as in Slurm by default, to keep the order of the output.
    """
    out, runtime_out = posix.pipe()
    if is_same_file(1, 2):
        return {out: 1}, runtime_out, runtime_out
    err, runtime_err = posix.pipe()
    return {out: 1, err: 2}, runtime_out, runtime_err


def is_same_file(one: int, other: int) -> bool:
    """Whether two descriptors refer to the same file."""
    try:
        first, second = posix.fstat(one), posix.fstat(other)
    except OSError:
        return False  # closed
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def exit_of(last_word: str, forwarded: list[int], is_script: bool = False) -> "tuple[int, str]":
    """A step's exit code by its runtime's last message, and the reason if the step was ended early.

    A forwarded signal ends the step, too: by it Slurm tells a cancelled job from a failed one. A script's step
    ends as the script does.
    """
    word, _, rest = last_word.partition(" ")
    if word == "exit":
        code = int(rest)
        if is_script:
            return code, ""
        if code in (DONE, FAILED):
            return int(code != DONE), ""
        return 1, f"The job's code exited with code {code} before it had a result."
    if word == "limit":
        return 1, rest
    number = int(rest) if word == "signal" else 9
    if number in forwarded or (is_script and word == "signal"):
        _signal.signal(number, _signal.SIG_DFL)
        posix.kill(posix.getpid(), number)
    return 1, signal_reason(number)


def step_request(token: str, step: list[str]) -> int:
    """The request for a runtime, as a file in memory: fields that are separated by NUL.

    They are the step's token, its umask and script; the number of fields of a script to run (its text and
    arguments), and these; the environment.
    """
    umask = posix.umask(0o077)
    posix.umask(umask)
    script, *arguments = step[1:] if step[0] == SCRIPT else step
    hint = [user_script(script), *map(_bytes, arguments)] if step[0] == SCRIPT else []
    fields = [
        token.encode(),
        b"%d" % umask,
        _bytes(script),
        b"%d" % len(hint),
        *hint,
        *(b"%b=%b" % pair for pair in posix.environ.items()),
    ]
    file, data = posix.memfd_create("step"), b"\0".join(fields)
    while data:
        data = data[posix.write(file, data) :]
    return file


def user_script(script: str) -> bytes:
    """The part of a batch script that the user wrote, without C2's wrapper."""
    file, read = posix.open(script, posix.O_RDONLY | posix.O_CLOEXEC), []
    while chunk := posix.read(file, 1 << 20):
        read.append(chunk)
    posix.close(file)
    return b"".join(read).partition(MARKER)[2].replace(b"\0", b"")


def request_runtime(path: str, request: int, out: int, err: int) -> "_socket.socket | None":
    """Send the service everything that the runtime needs; None if the service is not there."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    # not settimeout: with many clients at once connect would fail with EAGAIN (unix(7))
    connection.setsockopt(
        _socket.SOL_SOCKET, _socket.SO_SNDTIMEO, int(START_WAIT_S).to_bytes(8, sys.byteorder) + bytes(8)
    )
    try:
        posix.fstat(0)
    except OSError:
        posix.open("/dev/null", posix.O_RDONLY)
    fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (request, 0, out, err))
    job = posix.environ.get(b"SLURM_JOB_ID", b"")[:20] or b"-"
    try:
        connection.connect(path)
        connection.settimeout(START_WAIT_S)
        connection.sendmsg([job], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        select.select([connection], [], [], START_WAIT_S)
        connection.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except OSError:
        connection.close()
        return None
    finally:
        posix.close(request)
    return connection


def supervise(connection: "_socket.socket", pipes: dict[int, int], limit: int, forwarded: list[int]) -> str:
    """Copy the runtime's output until it has ended; returns its last message, or one of our own.

    `pipes` maps each pipe to the descriptor that its output goes to. More than `limit` bytes end the runtime.
    """

    def forward(number: int, _: object) -> None:
        forwarded.append(number)
        try:
            connection.send(bytes([number]), _socket.MSG_DONTWAIT)
        except OSError:
            pass  # it has ended

    for number in FORWARDED_SIGNALS:
        if _signal.getsignal(number) == _signal.SIG_DFL or number == _signal.SIGINT:
            _signal.signal(number, forward)
    copier = OutputCopier(pipes, limit)
    poll = select.poll()
    for fd in (connection.fileno(), *pipes):
        poll.register(fd, select.POLLIN)
    last_word = ""
    while not last_word:
        for fd, _ in poll.poll():
            if fd != connection.fileno():
                if not copier.copy(fd):
                    poll.unregister(fd)
            else:
                try:
                    last_word = connection.recv(MESSAGE_LIMIT).decode() or "lost"
                except OSError:
                    last_word = "lost"
        if copier.error:
            last_word = f"limit {copier.error}"
    if copier.error:
        connection.close()
        return last_word
    poll.unregister(connection.fileno())
    while copier.open and (ready := poll.poll(DRAIN_S * 1000)):
        for fd, _ in ready:
            if not copier.copy(fd):
                poll.unregister(fd)
    return f"limit {copier.error}" if copier.error else last_word


class OutputCopier:
    """Copies bytes from pipes to files, and counts them."""

    def __init__(self, pipes: dict[int, int], limit: int) -> None:
        self.open = dict(pipes)
        self.error = ""
        self._remaining = limit
        self._limit = limit

    def copy(self, fd: int) -> bool:
        """Copy what is available; False at the end of the output or at its limit."""
        data = posix.read(fd, CHUNK)
        if not data:
            del self.open[fd]
            return False
        allowed = memoryview(data)[: self._remaining]
        self._remaining -= len(allowed)
        try:
            while allowed:
                allowed = allowed[posix.write(self.open[fd], allowed) :]
        except OSError as error:
            self.error = f"Cannot write the job's output: {error.strerror}."
            return False
        if not self._remaining:
            self.error = f"Limit exceeded: the job printed more than {self._limit / 1e6:g} MB."
            return False
        return True


def signal_reason(number: int) -> str:
    """The reason of a job that a signal ended."""
    hint = " It may have run out of memory." if number == _signal.SIGKILL else ""
    return f"The job's code was killed by signal {number}.{hint}"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def start_cold(python: str, step: list[str]) -> int:
    """Replace this process by the step without a warm runtime, in the Python that has qslurm."""
    sys.stdout.flush()
    sys.stderr.flush()
    posix.execv(python, [python, "-I", "-m", "qslurm", "step", *step])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
