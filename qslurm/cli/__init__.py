"""The `qslurm` program: thin commands that parse, call, and print."""

from __future__ import annotations


def main() -> None:
    """Run `qslurm` with the process's arguments, and exit with the contract's code."""
    import gc
    import sys

    # What is imported stays: to search it for cycles again and again would take a twentieth of a short command's time.
    gc.set_threshold(50_000)
    try:
        with _ended_quietly():
            from qslurm.cli import streams
            from qslurm.cli.app import run

        streams.prepare()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 128 + 2
    from qslurm.system.fast_exit import leave

    leave(code)


class _ended_quietly:  # noqa: N801 - it reads as a function; contextlib would be one more import on the way
    """While nothing has begun, Ctrl-C ends the process at once, as it ends any other program.

    As an exception it could come up anywhere in an import, and come out as a traceback or as another error.
    """

    def __enter__(self) -> None:
        import _signal  # `signal` itself would take its time

        self._ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler  # or it is ignored
        if self._ours:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        import _signal

        if self._ours:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
