"""The server's side of TLS over a connection that does not block."""

from __future__ import annotations

import ssl

_RECORD = 64 * 1024


class ServerTls:
    """One connection's. `came` counts the bytes that have come, as they travel."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.came = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_open = False

    def decrypt(self, data: bytes) -> tuple[bytes, bytes]:
        """What was said, and what has to be sent for the handshake; ssl.SSLError if it is no TLS."""
        self.came += len(data)
        self._incoming.write(data)
        said = bytearray()
        try:
            if not self._is_open:
                self._tls.do_handshake()
                self._is_open = True
            while piece := self._tls.read(_RECORD):
                said += piece
        except ssl.SSLWantReadError:
            pass  # that was all
        return bytes(said), self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """What has to be sent so that the other side reads this."""
        self._tls.write(data)
        return self._outgoing.read()
