"""Who may join as a quantum runtime, and what becomes of those who may not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import zmq

from qslurm.protocol.curve import zap
from qslurm.protocol.curve.key_files import KeyPair, read_public
from qslurm.protocol.messages import Message, OrderResult
from qslurm.protocol.messages.remote_runtimes import (
    PROTOCOL,
    Assign,
    Claim,
    Declined,
    Enlist,
    Enlisted,
    HeartbeatReply,
    Leave,
    RemoteResult,
    ResultAcknowledged,
    RuntimeHeartbeat,
    decode_to_runtime,
    encode_frames,
)
from qslurm.runtimes.health import Health
from tests.unit.runtimes.quantum.remote.conftest import Site
from tests.unit.runtimes.quantum.remote.test_remote import NUMBERS, begin, the_execution
from tests.unit.waiting import until

T = TypeVar("T")


class Raw:
    """Somebody who has a key and says what they like."""

    def __init__(self, place: Site, keys: KeyPair, link: zmq.Socket[bytes]) -> None:
        self.instance = os.urandom(16)
        self._link = link
        link.linger = 500
        zap.authenticate_to(link, keys, read_public(place.folder / "dispatcher.pub"))
        link.connect(f"tcp://127.0.0.1:{place.port()}")

    def say(self, message: Message) -> None:
        with suppress(zmq.Again):  # a key that is shut out has nobody to speak to
            self._link.send_multipart(encode_frames(message), zmq.NOBLOCK)

    def hear(self, kind: type[T]) -> T:
        """The next message of a kind; meanwhile it says that it is alive."""

        def heard() -> T | None:
            if not self._link.poll(50):
                self.say(RuntimeHeartbeat(instance=self.instance, health=Health()))
                return None
            message = decode_to_runtime(self._link.recv_multipart())
            if message == HeartbeatReply(known=False) and kind is not HeartbeatReply:
                self._say_enlist()  # it was too slow
            return message if isinstance(message, kind) else None

        return until(heard, 30.0)  # type: ignore[return-value]

    def join(self) -> None:
        self.enlist(Enlisted)
        self.say(RuntimeHeartbeat(instance=self.instance, health=Health()))
        assert self.hear(HeartbeatReply).known

    def enlist(self, kind: type[T], **other: object) -> T:
        self._say_enlist(**other)
        return self.hear(kind)

    def _say_enlist(self, **other: object) -> None:
        asked = {"protocol": PROTOCOL, "backend": "qx", "instance": self.instance, "workers": 1, "claims": []}
        self.say(Enlist(**{**asked, **other}))  # type: ignore[arg-type]


@contextmanager
def raw(place: Site, keys: KeyPair) -> Iterator[Raw]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as link:
        one = Raw(place, keys, link)
        yield one
        one.say(Leave(instance=one.instance))


def answer_to(claim: Claim, instance: bytes) -> RemoteResult:
    result = OrderResult(runtime=0, order=claim.order, shots_done=10, counts={"11": 10}, seconds=9.0)
    return RemoteResult(instance=instance, claim=claim, result=result)


def test_a_key_that_is_not_allowed_does_not_come_in_until_it_is(place: Site) -> None:
    place.agents[-1].terminate()
    place.agents[-1].wait(30)
    keys = place.key("stranger", allow=False)
    place.join("stranger")
    until(lambda: place.warnings("stranger"))
    assert place.dispatcher.status().backends[0].runtimes == 0
    assert "refused" in place.dispatcher.log.read_text()
    (place.allowed / "stranger.pub").write_bytes(keys.public)
    until(lambda: place.joined(1))
    place.end_agents()


def test_a_dispatcher_with_another_key_is_told_nothing(place: Site) -> None:
    impostor = place.key("impostor", allow=False)
    place.key("late")
    right = (place.folder / "dispatcher.pub").read_bytes()
    (place.folder / "dispatcher.pub").write_bytes(impostor.public)
    late = place.join("late")
    until(lambda: place.warnings("late"))
    assert place.joined_times("late") == 0
    late.kill()
    late.wait()
    place.agents.remove(late)
    (place.folder / "dispatcher.pub").write_bytes(right)


def test_a_revoked_key_is_shut_out_at_once_and_its_answers_do_not_count(bare: Site) -> None:
    with raw(bare, bare.key("lab")) as lab:
        job = next(NUMBERS)
        lab.join()
        bare.dispatcher.ask(_job(job))
        given = lab.hear(Assign)
        bare.revoke("lab")
        lab.say(answer_to(given.claim, lab.instance))
        until(lambda: bare.dispatcher.status().backends[0].runtimes == 0)
        bare.key("other")
        bare.join("other")
        bare.let_go()
        assert the_execution(bare, job) == (10, 10, 0.5)
        assert bare.begun() == 1


def _job(job_id: int) -> Message:
    from tests.unit.c2.dispatcher.running import circuit_job

    return circuit_job(job_id, uid=os.getuid(), shots=10)


def test_nobody_answers_for_another_runtime(bare: Site) -> None:
    with (
        raw(bare, bare.key("lab-1")) as lab,
        raw(bare, bare.key("spy")) as spy,
    ):
        job = next(NUMBERS)
        for one in (lab, spy):
            one.enlist(Enlisted)
        lab.join()
        bare.dispatcher.ask(_job(job))
        given = lab.hear(Assign)
        spy.say(answer_to(given.claim, spy.instance))
        spy.hear(ResultAcknowledged)  # it was read
        assert spy.enlist(Enlisted, claims=[given.claim]).drop == [given.claim.order]
        spy.say(answer_to(given.claim, lab.instance))
        while spy.hear(HeartbeatReply).known:
            continue  # those were for its beats
        assert bare.dispatcher.executing()
        lab.say(answer_to(given.claim, lab.instance))
        assert the_execution(bare, job) == (10, 10, 9.0)
        lab.say(answer_to(given.claim, lab.instance))  # again: it counts once
        lab.hear(ResultAcknowledged)
        assert bare.dispatcher.reader().tasks("a")[0].shots == 10


def test_a_key_is_good_for_its_backend_one_runtime_and_as_many_places_as_there_are(place: Site) -> None:
    with raw(place, place.key("second")) as second:
        assert second.enlist(Declined, backend="spin2").reason == "its key is for backend 'qx'"
        assert "another version" in second.enlist(Declined, protocol=PROTOCOL + 1).reason
        assert "no more runtimes" in second.enlist(Declined).reason
    before = place.warnings()
    twin = place.join()  # with the first one's key
    until(lambda: place.warnings() > before)
    twin.kill()
    twin.wait()
    place.agents.remove(twin)


def test_rubbish_and_plain_zeromq_hurt_nobody(place: Site) -> None:
    job = begin(place)
    port = place.port()
    held = []
    for data in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\xff" + bytes(8) + b"\x7f\x03", b""):
        held.append(socket.create_connection(("127.0.0.1", port)))
        held[-1].sendall(data)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(16) + bytes(31)
    held.append(socket.create_connection(("127.0.0.1", port)))
    held[-1].sendall(greeting + b"\x06" + (1 << 30).to_bytes(8, "big"))  # a command of 1 GB is announced
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(f"tcp://127.0.0.1:{port}")
        plain.send_multipart([b"x", b"y"])
        held[-1].settimeout(30)
        while held[-1].recv(4096):
            continue  # it is told off
        place.let_go()
        assert the_execution(place, job) == (10, 10, 0.5)
    for one in held:
        one.close()


def test_rubbish_from_a_runtime_hurts_nobody(bare: Site) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as link:
        odd = Raw(bare, bare.key("odd"), link)
        for frames in ([b""], [b"\xc1"], [b"\x80"], [os.urandom(100)] * 50, [b"\x93" * 100_000]):
            link.send_multipart(frames)
        odd.enlist(Enlisted)
        odd.say(Leave(instance=odd.instance))
        assert bare.dispatcher.process.poll() is None
