"""What a user of C2's host does to the sockets that all users may connect to, until they are stopped.

By hand, as that user: python floods.py NAME SOCKET
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable

from qslurm.protocol.dispatcher_frames import encode
from qslurm.protocol.messages import Attach
from qslurm.wire.frames import frame, signed_frame
from qslurm.wire.unix_socket import connect_unix_socket


def connection(path: str) -> socket.socket:
    return connect_unix_socket(path, 5)


def again_and_again(path: str, attack: Callable[[str], None]) -> None:
    while True:
        try:
            attack(path)
        except OSError:
            continue  # it was thrown out; it comes again


def a_gigabyte(path: str) -> None:
    """A frame of 1 GB."""
    with connection(path) as link:
        link.sendall((1 << 30).to_bytes(4, "big") + bytes(8))
        for _ in range(1024):
            link.sendall(bytes(1 << 20))


def a_million_frames(path: str) -> None:
    with connection(path) as link:
        for _ in range(1000):
            link.sendall(frame(1, b"x") * 1000)


def halves(path: str) -> None:
    """As many connections as there can be, each with most of a large message."""
    links = []
    half = frame(1, bytes(7 << 20))[:-10]
    try:
        for _ in range(1200):
            links.append(connection(path))
            links[-1].setblocking(False)
            links[-1].send(half)
    except OSError:
        pass
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for link in links:
            try:
                link.send(half)
            except OSError:
                continue
    for link in links:
        link.close()


def silence(path: str) -> None:
    links = []
    for _ in range(1200):
        try:
            links.append(connection(path))
        except OSError:
            break
    for link in links[:1]:
        link.settimeout(60)
        while link.recv(1 << 16):
            continue  # until it is hung up on
    for link in links:
        link.close()


def bad_credentials(path: str) -> None:
    body = encode(Attach(job_id=1, restart=0, client="me"))
    question = signed_frame(1, body, b"MUNGE:AwQFAAC:") * 50
    with connection(path) as link:
        while True:
            link.sendall(question)
            link.recv(1 << 16)


def _many_in_silence(path: str, kind: socket.SocketKind) -> None:
    links = []
    try:
        for _ in range(500):
            links.append(socket.socket(socket.AF_UNIX, kind))
            links[-1].settimeout(5)
            links[-1].connect(path)
        links[-1].recv(1)
    finally:
        for link in links:
            link.close()


def silence_at_the_service(path: str) -> None:
    _many_in_silence(path, socket.SOCK_SEQPACKET)


def asks_again_and_again(path: str) -> None:
    """A runtime, and another before that has begun: each ends with who has asked for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(5)
        link.connect(path)
        null = os.open("/dev/null", os.O_RDWR)
        try:
            socket.send_fds(link, [b"1"], [null] * 4)
        finally:
            os.close(null)


def silence_at_the_feed(path: str) -> None:
    _many_in_silence(path, socket.SOCK_STREAM)


def says_that_it_is_the_gate(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(path)
        link.sendall((1 << 20).to_bytes(4, "big") + b"x" * 1000)
        link.recv(1 << 16)


def rubbish_at_munged(path: str) -> None:
    """One after the other. Those who say nothing hold both threads of a munged as it is, for two seconds each."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(path)
        link.sendall(b"\x00\x60\x6d\x4b\x04\x06\x00" + b"\xff" * 4 + b"x" * 4096)
        link.recv(1 << 16)


DISPATCHER = [a_gigabyte, a_million_frames, halves, silence, bad_credentials]
RUNTIMES = [silence_at_the_service, asks_again_and_again]
FEED = [silence_at_the_feed, says_that_it_is_the_gate]
MUNGED = [rubbish_at_munged]

if __name__ == "__main__":
    floods = [*DISPATCHER, *RUNTIMES, *FEED, *MUNGED]
    again_and_again(sys.argv[2], next(one for one in floods if one.__name__ == sys.argv[1]))
