"""Python logging in logfmt."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable

from qslurm.system.logfmt import Field, line

_LEVELS = {
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
    logging.DEBUG: "debug",
}


class RateLimit(logging.Filter):
    """Limits records per minute for events that anyone can cause; the next record counts the dropped ones."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._passed = self._left_out = 0
        self._since = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log this record."""
        with self._lock:
            now = self._clock()
            if now - self._since >= 60.0:
                self._since, self._passed = now, 0
            if self._passed >= self._most:
                self._left_out += 1
                return False
            self._passed += 1
            if self._left_out:
                record.fields = {**getattr(record, "fields", {}), "left_out": self._left_out}
                self._left_out = 0
        return True


class EventLog:
    """A logger of events with fields, such as `job` and `center`.

    `per_minute` limits events that any user can cause.
    """

    def __init__(self, name: str, *, per_minute: int | None = None) -> None:
        self._logger = logging.getLogger(name)
        if per_minute is not None:
            self._logger.addFilter(RateLimit(per_minute))

    def debug(self, event: str, /, **fields: Field) -> None:
        """Log at debug level."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: Field) -> None:
        """Log at info level."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: Field) -> None:
        """Log at warning level."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: Field) -> None:
        """Log at error level."""
        self._log(logging.ERROR, event, fields)

    def crashed(self, event: str, error: BaseException, /, **fields: Field) -> None:
        """Log an unexpected exception with its traceback."""
        self._log(logging.ERROR, event, fields, error)

    def _log(
        self, level: int, event: str, fields: dict[str, Field], error: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={"fields": fields}, exc_info=error)


class EventFormatter(logging.Formatter):
    """Formats records as one line, with tracebacks as a field."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        """Format a record without a newline."""
        fields: dict[str, Field] = dict(getattr(record, "fields", {}))
        if not record.name.startswith("qslurm"):
            fields["logger"] = record.name
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        level = _LEVELS.get(record.levelno, "info")
        return line(self._part, level, record.getMessage().strip(), fields, now=record.created).rstrip("\n")


def configure(part: str, level: int = logging.INFO) -> None:
    """Log to stderr, unless logging is already configured."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter(part))
    logging.basicConfig(handlers=[handler], level=level)
