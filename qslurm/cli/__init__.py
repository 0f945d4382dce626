"""The `qslurm` program: thin commands that parse, call, and print."""

from __future__ import annotations


def main() -> None:
    """Run `qslurm` with the process's arguments, and exit with the contract's code."""
    import gc
    import sys

    # Imported modules stay: collecting garbage among them takes a twentieth of a short command's time.
    gc.set_threshold(50_000)
    try:
        with _default_interrupt():
            from qslurm.cli import streams
            from qslurm.cli.app import run

        streams.prepare()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 128 + 2
    from qslurm.system.fast_exit import leave

    leave(code)


class _default_interrupt:  # noqa: N801 - used like a function; contextlib would be one more import
    """During imports, Ctrl-C ends the process by the signal's default action.

    As an exception in an import it could end in a traceback or in another error.
    """

    def __enter__(self) -> None:
        import _signal  # `signal` takes longer to import

        self._ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler  # else it is ignored
        if self._ours:
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

    def __exit__(self, *_: object) -> None:
        import _signal

        if self._ours:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
