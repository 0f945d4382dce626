"""The connection of who asks: what is cut, late, rubbish or somebody else's is never taken for an answer."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qslurm.errors import UnreachableError
from qslurm.protocol.dispatcher_client import DispatcherClient
from qslurm.protocol.dispatcher_frames import encode
from qslurm.protocol.messages import Done, GetStatus
from qslurm.wire.blocking import BlockingConnection
from qslurm.wire.credentials import SameUser
from qslurm.wire.frames import NO_REQUEST, frame
from qslurm.wire.unix_socket import connect_unix_socket_by

LIMIT = 4 << 20


def soon() -> float:
    return time.monotonic() + 30.0


def test_who_comes_before_the_server_waits_for_it(home: Path) -> None:
    links = []
    early = threading.Thread(target=lambda: links.append(connect_unix_socket_by(str(home / "s"), soon())))
    early.start()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "s"))
        listener.listen()
        early.join()
        taken, _ = listener.accept()
        links[0].close()
        taken.close()
    with pytest.raises(OSError, match="refused"):
        connect_unix_socket_by(str(home / "s"), time.monotonic())


def test_a_large_answer_comes_in_pieces(peers: list[Peer]) -> None:
    peer = peers[0]
    answering = peer.answers_one(body := os.urandom(3_000_000))
    assert peer.link.request(b"more", b"c" * 300, soon()) == body
    answering.join()


@pytest.mark.parametrize("data", [b"", b"\0", frame(1, b"answer")[:-1]])
def test_an_answer_that_is_cut_off_is_none(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.shutdown(socket.SHUT_WR)
    with theirs, BlockingConnection(ours, LIMIT) as link, pytest.raises((OSError, EOFError)):
        link.request(b"?", b"", soon())


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n", bytes(12), frame(2, b"to another request")]
)
def test_what_is_no_answer_is_not_believed(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    with theirs, BlockingConnection(ours, LIMIT) as link, pytest.raises(ConnectionError):
        link.request(b"?", b"", soon())


def test_descriptors_come_with_a_frame_of_their_own_and_the_last_ones_count() -> None:
    ours, theirs = socket.socketpair()
    with theirs, BlockingConnection(ours, LIMIT, descriptors=2) as link:
        for number in (1, 2):
            ends = socket.socketpair()
            socket.send_fds(theirs, [frame(NO_REQUEST, b"")], [end.fileno() for end in ends])
            for end in ends:
                end.close()
            theirs.sendall(frame(number, b"answer"))
            assert link.request(b"?", b"", soon()) == b"answer"
        assert link.is_connected
        taken = link.take_descriptors()
        one, other = (socket.socket(fileno=descriptor) for descriptor in taken)
        with one, other:
            one.sendall(b"x")
            assert other.recv(1) == b"x"
            assert not any(os.get_inheritable(descriptor) for descriptor in taken)
        assert link.take_descriptors() == []
        theirs.shutdown(socket.SHUT_WR)
        assert not link.is_connected


def test_descriptors_that_nobody_takes_are_closed_with_the_connection() -> None:
    ours, theirs = socket.socketpair()
    kept, sent = socket.socketpair()
    with theirs, kept, BlockingConnection(ours, LIMIT, descriptors=2) as link:
        socket.send_fds(theirs, [frame(NO_REQUEST, b"")], [sent.fileno()])
        sent.close()
        theirs.sendall(frame(1, b"answer"))
        link.request(b"?", b"", soon())
        link.close()
        assert kept.recv(1) == b"", "nobody has the other end any more"


class Peer:
    """The other end of a connection that exists already, by hand."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        self.socket.settimeout(30.0)
        self.link = BlockingConnection(ours, LIMIT)
        self._number = 0

    def answer(self, body: bytes = encode(Done())) -> None:
        self._number += 1
        self.socket.sendall(frame(self._number, body))

    def answers_one(self, body: bytes = encode(Done())) -> threading.Thread:
        """In a thread of its own, once it has been asked."""

        def serve() -> None:
            self.socket.recv(1 << 16)
            self.answer(body)

        thread = threading.Thread(target=serve)
        thread.start()
        return thread


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made = [Peer(), Peer()]
    yield made
    for peer in made:
        peer.link.close()
        peer.socket.close()


def client_of(peers: list[Peer]) -> DispatcherClient:
    links = iter([peer.link for peer in peers])
    return DispatcherClient("here", identity=SameUser(), link=lambda _: next(links))


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
