"""The server's side of TLS over a non-blocking connection."""

from __future__ import annotations

import ssl

_RECORD = 64 * 1024


class ServerTls:
    """The TLS state of one connection. `received` counts its encrypted bytes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.received = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._is_open = False

    def decrypt(self, data: bytes) -> tuple[bytes, bytes]:
        """The decrypted bytes, and the bytes to send for the handshake; ssl.SSLError if `data` is not TLS."""
        self.received += len(data)
        self._incoming.write(data)
        decrypted = bytearray()
        try:
            if not self._is_open:
                self._tls.do_handshake()
                self._is_open = True
            while piece := self._tls.read(_RECORD):
                decrypted += piece
        except ssl.SSLWantReadError:
            pass  # nothing more to decrypt
        return bytes(decrypted), self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """The bytes to send."""
        self._tls.write(data)
        return self._outgoing.read()
