"""A quantum runtime on another host and a dispatcher that is played here: what crosses on the way is begun once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from qslurm.c2.config.dispatcher_section import BackendConfig
from qslurm.protocol.messages import Message, Run
from qslurm.protocol.messages.remote_runtimes import (
    Assign,
    Claim,
    Declined,
    Enlist,
    Enlisted,
    FromRuntime,
    RemoteResult,
    decode_from_runtime,
    encode_frames,
)
from qslurm.runtimes.quantum.join_service import JoinService, JoinSettings
from tests.unit.c2.dispatcher.running import BELL


class Dispatcher:
    """What a runtime says to it is read only when it is asked for."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._address = b""

    def reads(self) -> FromRuntime:
        """The next message."""
        assert self._socket.poll(30_000)
        self._address, *frames = self._socket.recv_multipart()
        return decode_from_runtime(frames)

    def enlistment(self) -> Enlist:
        while not isinstance(message := self.reads(), Enlist):
            pass
        return message

    def answer(self) -> RemoteResult:
        """The next one; who enlists again meanwhile is welcome."""
        while not isinstance(message := self.reads(), RemoteResult):
            if isinstance(message, Enlist):
                self.welcomes(message)
        return message

    def says(self, message: Message) -> None:
        self._socket.send_multipart([self._address, *encode_frames(message)])

    def welcomes(self, enlist: Enlist) -> None:
        backend = BackendConfig(name="qx", runtime="null", qubits=2, workers=0, remote=1)
        self.says(
            Enlisted(
                backend=backend,
                workers=1,
                execution_limit_s=60.0,
                beat_s=0.05,
                drop=[],
                attempt=enlist.attempt,
            )
        )

    def gives(self, order: int) -> None:
        claim = Claim(order=order, task=1, seq=0, circuit_sha256="", shots=10)
        run = Run(order=order, circuit=BELL, shots=10, raw_data=False, seed=None, file="circuit")
        self.says(Assign(claim=claim, run=run))


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    """A runtime looks for it, from a thread."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        settings = JoinSettings(
            connect=f"tcp://127.0.0.1:{port}", backend="qx", key=Path(), dispatcher_key=Path()
        )
        agent = JoinService(context, context.socket(zmq.DEALER), settings)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            yield Dispatcher(socket)
        finally:
            agent.stop()
            os.write(agent.wake_fd, b".")
            thread.join()


def test_an_order_that_crosses_with_an_enlistment_is_not_begun_until_it_is_given_again(
    dispatcher: Dispatcher,
) -> None:
    first = dispatcher.enlistment()
    dispatcher.welcomes(first)
    second = dispatcher.enlistment()  # its beats have no answer
    dispatcher.gives(7)  # who has not read the second
    dispatcher.welcomes(first)
    dispatcher.gives(8)
    dispatcher.says(Declined(reason="not now"))
    third = dispatcher.enlistment()
    assert len({first.attempt, second.attempt, third.attempt}) == 3
    assert third.claims == []
    dispatcher.welcomes(third)
    dispatcher.gives(9)
    assert dispatcher.answer().claim.order == 9
