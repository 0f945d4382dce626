"""A job's step, as long as a warm runtime does its work: asks for one, and stays in its place within Slurm's job.

It runs as the job's user, compiled and without site-packages (`python -I -S client.pyc SOCKET PYTHON SCRIPT`; for a
script that is to be run, `… --script SCRIPT ARGUMENT…`), and imports next to nothing, since every start of a job waits
for it. What the runtime prints comes through here, to be counted. When this process ends, for whatever reason, the
runtime is ended with it; signals are passed on. Where no runtime is to be had, the step is run the slow way.
"""

import _signal
import _socket
import posix  # and not os, whose import takes a tenth of all this
import select
import sys

ANSWER_S = 2.0
"""Without a runtime after so long the step starts one itself."""
DRAIN_S = 5.0
CHUNK = 65536
PASSED_ON = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGUSR1, _signal.SIGUSR2)
SCM_LIMIT = 4096
SCRIPT = "--script"
"""Before the path of a batch script that is to be run; without it, the script only hands over to this step."""
MARKER = b"\n#QSLURM-SCRIPT\n"
TOKEN = "QSLURM_STEP_TOKEN"  # noqa: S105 -- a variable's name
"""The variable by which a second process of a step shows that it belongs to the first."""
DONE, FAILED = 96, 1
"""Exit codes by which a step says that its work is done, or that it has said why not. Any other is the user's code's,
which has ended the process before there was a result: 0, too (os._exit, another program in its place)."""


def main(arguments: list[str]) -> int:
    """Run the step; the exit code."""
    socket_path, python, *step = arguments
    is_script = step[0] == SCRIPT
    token = posix.urandom(16).hex()
    pipes, out, err = output_pipes()
    link = ask(socket_path, wishes(token, step), out, err)
    for end in {out, err}:
        posix.close(end)
    posix.putenv(TOKEN, token)  # if a runtime was given after all, and too late: the step has one session
    if link is None:
        sys.stderr.write("qslurm: no warm runtime available; starting one.\n")
        return cold(python, step)
    answer = link.recv(SCM_LIMIT).decode()  # nothing: the service has hung up
    word, _, limit = answer.partition(" ")
    if word != "began":
        sys.stderr.write(f"qslurm: {answer or 'no warm runtime available'}; starting one.\n")
        return cold(python, step)
    ended_by: list[int] = []
    code, reason = outcome(attend(link, pipes, int(limit), ended_by), ended_by, is_script)
    if not reason:
        return code
    if is_script:
        sys.stderr.write(f"qslurm: {reason}\n")
        return code
    for end in pipes:
        # until it is killed, the runtime waits for us: it must see no broken pipe
        posix.set_inheritable(end, True)
    return cold(python, ["--failed", reason, *step])


def output_pipes() -> tuple[dict[int, int], int, int]:
    """Pipes for what is printed: where each goes, and the ends for stdout and stderr.

    It is one pipe if both go to the same file, as Slurm has it by default: what is printed first must come first there.
    """
    out, new_out = posix.pipe()
    if is_same_file(1, 2):
        return {out: 1}, new_out, new_out
    err, new_err = posix.pipe()
    return {out: 1, err: 2}, new_out, new_err


def is_same_file(one: int, other: int) -> bool:
    """Whether two descriptors are of the same file."""
    try:
        here, there = posix.fstat(one), posix.fstat(other)
    except OSError:
        return False  # closed
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def outcome(verdict: str, ended_by: list[int], is_script: bool = False) -> "tuple[int, str]":
    """A step's exit code by its runtime's last word, and why it was ended if it was.

    A signal that was passed on ends the step, too: by it Slurm tells a cancelled job from a failed one. A script's
    step ends as the script has.
    """
    word, _, rest = verdict.partition(" ")
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
    if number in ended_by or (is_script and word == "signal"):
        _signal.signal(number, _signal.SIG_DFL)
        posix.kill(posix.getpid(), number)
    return 1, reason_of(number)


def wishes(token: str, step: list[str]) -> int:
    """What a runtime is to do, as a file in memory, in words.

    They are the step's token, its umask and script; how many words follow for a script that is to be run, which are its
    text and arguments; the environment.
    """
    umask = posix.umask(0o077)
    posix.umask(umask)
    script, *arguments = step[1:] if step[0] == SCRIPT else step
    more = [text_of(script), *map(_bytes, arguments)] if step[0] == SCRIPT else []
    words = [
        token.encode(),
        b"%d" % umask,
        _bytes(script),
        b"%d" % len(more),
        *more,
        *(b"%b=%b" % pair for pair in posix.environ.items()),
    ]
    file, data = posix.memfd_create("step"), b"\0".join(words)
    while data:
        data = data[posix.write(file, data) :]
    return file


def text_of(script: str) -> bytes:
    """What the user has written of a batch script that C2 has wrapped."""
    file, read = posix.open(script, posix.O_RDONLY | posix.O_CLOEXEC), []
    while chunk := posix.read(file, 1 << 20):
        read.append(chunk)
    posix.close(file)
    return b"".join(read).partition(MARKER)[2].replace(b"\0", b"")


def ask(path: str, asked: int, out: int, err: int) -> "_socket.socket | None":
    """Hand everything that the runtime needs to the service; None if it is not there."""
    link = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    # with a time limit of Python's it would not wait for its turn when many ask at once (unix(7), EAGAIN)
    link.setsockopt(
        _socket.SOL_SOCKET, _socket.SO_SNDTIMEO, int(ANSWER_S).to_bytes(8, sys.byteorder) + bytes(8)
    )
    try:
        posix.fstat(0)
    except OSError:
        posix.open("/dev/null", posix.O_RDONLY)
    fds = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (asked, 0, out, err))
    job = posix.environ.get(b"SLURM_JOB_ID", b"")[:20] or b"-"
    try:
        link.connect(path)
        link.settimeout(ANSWER_S)
        link.sendmsg([job], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)])
        select.select([link], [], [], ANSWER_S)
        link.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
    except OSError:
        link.close()
        return None
    finally:
        posix.close(asked)
    return link


def attend(link: "_socket.socket", pipes: dict[int, int], limit: int, ended_by: list[int]) -> str:
    """Carry what is printed until the runtime has ended; its last word, or one of our own.

    `pipes` says where what comes out of each goes. More than `limit` bytes end the runtime.
    """

    def pass_on(number: int, _: object) -> None:
        ended_by.append(number)
        try:
            link.send(bytes([number]), _socket.MSG_DONTWAIT)
        except OSError:
            pass  # it has ended

    for number in PASSED_ON:
        if _signal.getsignal(number) == _signal.SIG_DFL or number == _signal.SIGINT:
            _signal.signal(number, pass_on)
    carry = Carrier(pipes, limit)
    waiting = select.poll()
    for fd in (link.fileno(), *pipes):
        waiting.register(fd, select.POLLIN)
    verdict = ""
    while not verdict:
        for fd, _ in waiting.poll():
            if fd != link.fileno():
                if not carry.move(fd):
                    waiting.unregister(fd)
            else:
                try:
                    verdict = link.recv(SCM_LIMIT).decode() or "lost"
                except OSError:
                    verdict = "lost"
        if carry.trouble:
            verdict = f"limit {carry.trouble}"
    if carry.trouble:
        link.close()
        return verdict
    waiting.unregister(link.fileno())
    while carry.open and (ready := waiting.poll(DRAIN_S * 1000)):
        for fd, _ in ready:
            if not carry.move(fd):
                waiting.unregister(fd)
    return f"limit {carry.trouble}" if carry.trouble else verdict


class Carrier:
    """Carries bytes from pipes to files, and counts them."""

    def __init__(self, pipes: dict[int, int], limit: int) -> None:
        self.open = dict(pipes)
        self.trouble = ""
        self._left = limit
        self._limit = limit

    def move(self, fd: int) -> bool:
        """Carry what there is; False when there will be no more, or no more is wanted."""
        data = posix.read(fd, CHUNK)
        if not data:
            del self.open[fd]
            return False
        allowed = memoryview(data)[: self._left]
        self._left -= len(allowed)
        try:
            while allowed:
                allowed = allowed[posix.write(self.open[fd], allowed) :]
        except OSError as error:
            self.trouble = f"Cannot write the job's output: {error.strerror}."
            return False
        if not self._left:
            self.trouble = f"Limit exceeded: the job printed more than {self._limit / 1e6:g} MB."
            return False
        return True


def reason_of(number: int) -> str:
    """What to say of code that a signal ended."""
    more = " It may have run out of memory." if number == _signal.SIGKILL else ""
    return f"The job's code was killed by signal {number}.{more}"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def cold(python: str, step: list[str]) -> int:
    """Become the step as it is without us, in the Python that has qslurm."""
    sys.stdout.flush()
    sys.stderr.flush()
    posix.execv(python, [python, "-I", "-m", "qslurm", "step", *step])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
