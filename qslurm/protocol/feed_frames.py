"""What the gate and the job manager say to each other: frames of msgpack over a Unix socket.

The job manager listens, and says whether anybody follows; the gate connects, and tells how the jobs are.
"""

from __future__ import annotations

import socket

import msgspec

from qslurm.slurm.job_row import JobRow

HEADER = 4
LARGEST = 512 * 1024 * 1024
"""Bytes of a frame; a million jobs are some 250 MB."""


class Update(msgspec.Struct, tag="update"):
    """Jobs that are new or have changed, and the ids of those that slurmctld knows no more.

    `reset`: these are all there are. `look`: the newest question that had been asked when this look began.
    """

    rows: list[JobRow] = []
    gone: list[int] = []
    reset: bool = False
    look: int = 0


class Still(msgspec.Struct, tag="still"):
    """Nothing has changed, and the gate is there. `look` as for Update."""

    look: int = 0


class Trouble(msgspec.Struct, tag="trouble"):
    """The gate can't know how the jobs are, and why."""

    reason: str


class Wanted(msgspec.Struct, tag="wanted"):
    """Whether somebody follows: while nobody does, the gate does not look.

    `look` numbers the questions of who wants to know how the jobs are now, and not half a second ago.
    """

    wanted: bool
    look: int = 0


Said = Update | Still | Trouble

said: msgspec.msgpack.Decoder[Said] = msgspec.msgpack.Decoder(Said)
wanted: msgspec.msgpack.Decoder[Wanted] = msgspec.msgpack.Decoder(Wanted)


def send(link: socket.socket, message: Said | Wanted) -> None:
    """Send one frame."""
    body = msgspec.msgpack.encode(message)
    link.sendall(len(body).to_bytes(HEADER, "big") + body)


def receive(link: socket.socket) -> bytes:
    """The next frame's body; EOFError when the other side has gone, OSError for what is no frame."""
    size = int.from_bytes(_exactly(link, HEADER), "big")
    if size > LARGEST:
        raise OSError("what speaks there is no feed")
    return _exactly(link, size)


def _exactly(link: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = link.recv(min(length - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
