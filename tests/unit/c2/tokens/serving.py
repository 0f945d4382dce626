"""The renewal service at a socket, in a thread of the test's process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qslurm.c2.tokens.renewal_service import RenewalService


@contextmanager
def serving(service: RenewalService, path: str) -> Iterator[None]:
    """Answer one request after the other until the block is left."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(32)

    def run() -> None:
        while True:
            try:
                service.serve_next(listener)
            except OSError:
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()
