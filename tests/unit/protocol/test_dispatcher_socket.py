"""The connection of who asks: what is cut, late, rubbish or somebody else's is never taken for an answer."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import zmq

from qslurm.errors import UnreachableError
from qslurm.protocol.credentials import OwnConnection
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.dispatcher_frames import encode
from qslurm.protocol.dispatcher_socket import Link, LinkError, connect
from qslurm.protocol.messages import Done, GetStatus
from qslurm.protocol.zmtp import GREETING, pack, ready

HELLO = GREETING + ready(b"ROUTER")


def soon() -> float:
    return time.monotonic() + 30.0


@contextmanager
def libzmq_answers(path: Path) -> Iterator[None]:
    """A ROUTER of libzmq's that sends each body back, and one of 3 MB for the body `more`."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(f"ipc://{path}")

        def serve() -> None:
            while True:
                *address, body, _ = router.recv_multipart()
                router.send_multipart([*address, b"x" * 3_000_000 if body == b"more" else body])
                if body == b"end":
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        with closing(connect(str(path), soon())) as last:
            last.ask(b"end", b"", soon())
        thread.join()


def test_libzmq_understands_it(home: Path) -> None:
    with libzmq_answers(home / "s"):
        link = connect(str(home / "s"), soon())
        assert [link.ask(body, b"", soon()) for body in (b"a", b"", b"y" * 2_000_000)] == [
            b"a",
            b"",
            b"y" * 2_000_000,
        ]
        assert len(link.ask(b"more", b"c" * 300, soon())) == 3_000_000
        link.close()


def test_who_comes_before_the_dispatcher_waits_for_it(home: Path) -> None:
    links = []
    early = threading.Thread(target=lambda: links.append(connect(str(home / "s"), soon())))
    early.start()
    with libzmq_answers(home / "s"):
        early.join()
        assert links[0].ask(b"there?", b"", soon()) == b"there?"
        links[0].close()


@pytest.mark.parametrize("data", [b"", GREETING, HELLO, HELLO + pack([b"", b"answer"])[:-1]])
def test_an_answer_that_is_cut_off_is_none(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    with theirs, pytest.raises(LinkError):
        Link(ours).ask(b"?", b"", soon())
    ours.close()


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n", GREETING + ready(b"DEALER"), HELLO + b"\xff\xff"]
)
def test_what_is_no_dispatcher_is_not_believed(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    with theirs, pytest.raises(LinkError):
        Link(ours).ask(b"?", b"", soon())
    ours.close()


class Peer:
    """The other end of a connection that exists already, by hand."""

    def __init__(self) -> None:
        ours, self._socket = socket.socketpair()
        self._socket.settimeout(30.0)
        self._socket.sendall(HELLO)
        self.link = Link(ours)

    def answer(self) -> None:
        self._socket.sendall(pack([b"", encode(Done())]))

    def answers_one(self) -> threading.Thread:
        """In a thread of its own, once it has been asked."""

        def serve() -> None:
            while b"GetStatus" not in self._socket.recv(1 << 16):
                continue
            self.answer()

        thread = threading.Thread(target=serve)
        thread.start()
        return thread


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made = [Peer(), Peer()]
    yield made
    for peer in made:
        peer.link.close()
        peer._socket.close()


def client_of(peers: list[Peer]) -> DispatcherClient:
    links = iter([peer.link for peer in peers])
    return DispatcherClient("here", identity=OwnConnection(), link=lambda _: next(links))


def test_no_answer_in_time_is_said_and_a_late_one_is_not_that_of_the_next_question(peers: list[Peer]) -> None:
    with client_of(peers) as client:
        with pytest.raises(UnreachableError, match="The dispatcher at here does not answer"):
            client.ask(GetStatus(), timeout_s=0.01)
        with pytest.raises(BrokenPipeError):
            peers[0].answer()
        answering = peers[1].answers_one()
        assert client.ask(GetStatus(), timeout_s=30.0) == Done()
        answering.join()


def test_a_fork_does_not_speak_in_its_parents_place(peers: list[Peer]) -> None:
    def asks(client: DispatcherClient, peer: Peer) -> bool:
        answering = peer.answers_one()
        answer = client.ask(GetStatus(), timeout_s=30.0)
        answering.join()
        return answer == Done()

    with client_of(peers) as client:
        assert asks(client, peers[0])
        if (fork := os.fork()) == 0:
            try:
                os._exit(0 if asks(client, peers[1]) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 0
        assert asks(client, peers[0])
