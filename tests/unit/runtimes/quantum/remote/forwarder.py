"""A piece of cable between two TCP ports that can be cut and mended."""

from __future__ import annotations

import selectors
import socket
import threading


class Forwarder:
    """Carries bytes from a port of its own to another, in a thread."""

    def __init__(self, port: int) -> None:
        self.target = port
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._bell, self._ear = socket.socketpair()
        self._lock = threading.Lock()
        self.port = 0
        self._listener: socket.socket | None = None
        self._selector.register(self._ear, selectors.EVENT_READ)
        self.mend()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def cut(self) -> None:
        """End all connections, and take no new ones."""
        with self._lock:
            for one in (*self._peers, self._listener):
                if one is not None:
                    self._selector.unregister(one)
                    one.close()
            self._peers.clear()
            self._listener = None
        self._bell.send(b".")

    def mend(self) -> None:
        with self._lock:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen()
            self.port = self._listener.getsockname()[1]
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._bell.send(b".")

    def _carry(self) -> None:
        while True:
            for key, _ in self._selector.select():
                with self._lock:
                    if key.fileobj is self._ear:
                        if b"!" in self._ear.recv(100):
                            return
                    elif key.fileobj is self._listener:
                        self._connect(self._listener)
                    elif key.fileobj in self._peers:
                        self._forward(key.fileobj)

    def _connect(self, listener: socket.socket) -> None:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self._peers |= {near: far, far: near}
        for one in (near, far):
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, near: socket.socket) -> None:
        far = self._peers[near]
        try:
            data = near.recv(1 << 16)
            far.sendall(data)
        except OSError:
            data = b""
        if not data:
            for one in (near, far):
                del self._peers[one]
                self._selector.unregister(one)
                one.close()

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._bell.send(b"!")
        self._thread.join()
        self._selector.close()
        self._bell.close()
        self._ear.close()
