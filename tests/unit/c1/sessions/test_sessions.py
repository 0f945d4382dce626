"""Sessions: the loop runs elsewhere, and comes by TLS to where its circuits are executed."""

from __future__ import annotations

import gc
import os
import secrets
import socket
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from qslurm.c1.sessions.connect import SessionEndedError, SessionNotOpenError, SessionServerAddress, attach
from qslurm.errors import InvalidInputError, JobCancelledError, QslurmError, TimedOutError, UnreachableError
from qslurm.protocol.dispatcher_frames import decode_reply, encode
from qslurm.protocol.messages import Await, Execute, Executed, GetStatus, Refused
from qslurm.protocol.session_frames import HEARTBEAT_TIMEOUT_S, PROTOCOL, SessionHello, host_and_port
from qslurm.runtimes.interface import QuantumInterface
from qslurm.wire.frames import FrameReader, frame
from tests.unit.c1.sessions.conftest import Place
from tests.unit.waiting import until

CIRCUIT = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"


def test_circuits_of_a_loop_elsewhere_are_executed_and_accounted(place: Place) -> None:
    place.let_go()
    held = place.hold()
    with closing(held.client()) as client:
        qi = QuantumInterface(client)
        assert [qi.execute_circuit(CIRCUIT, shots).results for shots in (10, 20)] == [{"01": 10}, {"01": 20}]
        assert qi.backend_type.name == "qx"
        assert client.conclude(final_result='{"energy": -1.1}')
    assert held.wait().state == "finished"
    task = place.dispatcher.reader().task("a", held.job_id)
    assert task is not None
    assert (task.kind, task.state, task.executions, task.shots) == ("session", "finished", 2, 30)
    assert place.dispatcher.final_result(task) == {"energy": -1.1}


def test_circuits_do_not_wait_for_each_other(place: Place) -> None:
    held = place.hold()
    with closing(held.client()) as client:
        futures = [client.submit(CIRCUIT, shots, True) for shots in range(1, 101)]
        until(lambda: place.begun() == 4)  # as many as the backend has places
        place.let_go()
        assert [future.result(60).shots_done for future in futures] == list(range(1, 101))
        assert client.shots == 5050


def test_the_first_circuit_that_is_none_is_an_error_and_the_session_goes_on(place: Place) -> None:
    place.let_go()
    held = place.hold()
    with closing(held.client()) as client:
        qi = QuantumInterface(client)
        with pytest.raises(InvalidInputError, match="shots"):
            client.execute(CIRCUIT, 10**9, False)
        assert qi.execute_circuits([CIRCUIT, CIRCUIT], 5)[1].results == {"01": 5}


def test_a_link_that_is_cut_costs_nothing(place: Place) -> None:
    held = place.hold()
    with closing(held.client(by_cable=True)) as client:
        futures = [client.submit(CIRCUIT, shots, False) for shots in (1, 2, 3)]
        until(lambda: place.begun() == 3)
        for _ in range(2):
            place.cable.cut()
            until(lambda: "was lost" in " ".join(held.said))
            held.said.clear()
            place.cable.mend()
            until(lambda: "Reconnected" in " ".join(held.said))
        place.let_go()
        assert [future.result(60).counts for future in futures] == [{"01": 1}, {"01": 2}, {"01": 3}]
        client.conclude()
    assert held.wait().state == "finished"
    assert place.begun() == 3  # nothing ran twice


def test_links_that_are_given_up_again_and_again_cost_nothing(place: Place) -> None:
    held = place.hold()
    with closing(held.link(silence_s=0.05)) as link:  # no sign of life comes in that time
        orders = [Execute(task=0, seq=seq, circuit=CIRCUIT, shots=seq + 1) for seq in range(40)]
        futures = [link.ask(lambda order=order: order) for order in orders]
        until(lambda: held.links > 3)
        link.silence_s = HEARTBEAT_TIMEOUT_S
        place.let_go()
        answers = [future.result(60) for future in futures]
    assert [one.shots_done for one in answers if isinstance(one, Executed)] == list(range(1, 41))
    assert place.begun() == 40


def test_what_comes_out_while_the_link_is_cut_arrives(place: Place) -> None:
    held = place.hold()
    with closing(held.client(by_cable=True)) as client:
        future = client.submit(CIRCUIT, 7, True)
        until(lambda: place.begun() == 1)
        place.cable.cut()
        place.let_go()
        reader = place.dispatcher.reader()
        until(lambda: (task := reader.task("a", held.job_id)) and task.executions)
        place.cable.mend()
        assert future.result(60).raw_data == ["01"] * 7
    assert place.begun() == 1


def test_a_killed_dispatcher_costs_a_session_nothing_that_was_stored(python: Path, home: Path) -> None:
    with Place(home, python) as place:
        held = place.hold()
        with closing(held.client(by_cable=True)) as client:
            place.let_go()
            assert client.execute(CIRCUIT, 3, False).counts == {"01": 3}
            (home / "go").unlink()
            future = client.submit(CIRCUIT, 5, False)
            until(lambda: place.begun() == 2)
            place.kill()
            place.let_go()
            assert future.result(60).counts == {"01": 5}
            client.conclude()
        assert held.wait().state == "finished"
        task = place.dispatcher.reader().task("a", held.job_id)
        assert task is not None
        assert (task.executions, task.shots) == (2, 8)


def test_a_session_that_nobody_uses_is_ended(place: Place) -> None:
    place.let_go()
    held = place.hold(idle_limit_s=0.2)
    with closing(held.client()) as client:
        client.execute(CIRCUIT, 1, False)
        until(lambda: client.over)
        with pytest.raises(TimedOutError, match="idle limit"):
            client.execute(CIRCUIT, 1, False)
    assert held.wait().state == "timed_out"


def test_a_circuit_that_takes_longer_than_the_idle_limit_is_no_idleness(place: Place) -> None:
    held = place.hold(idle_limit_s=0.2)
    with closing(held.client()) as client:
        future = client.submit(CIRCUIT, 1, False)
        until(lambda: place.begun() == 1)
        with pytest.raises(TimeoutError):
            future.result(0.3)  # it would have been ended by then
        place.let_go()
        assert future.result(60).counts == {"01": 1}


def test_a_cancelled_job_ends_its_session_at_once(place: Place) -> None:
    held = place.hold()
    with closing(held.client()) as client:
        future = client.submit(CIRCUIT, 1, False)
        until(lambda: place.begun() == 1)
        held.finish("CANCELLED")
        with pytest.raises(JobCancelledError):
            future.result(60)
        assert isinstance(until(lambda: client.over), JobCancelledError)


def test_a_job_that_slurm_puts_back_in_its_queue_goes_on_when_it_starts_again(place: Place) -> None:
    held = place.hold()
    with closing(held.client()) as client:
        future = client.submit(CIRCUIT, 3, False)
        until(lambda: place.begun() == 1)
        held.finish("REQUEUED")
        until(lambda: "does not hold the session" in " ".join(held.said))
        assert client.over is None
        held.start()
        until(lambda: place.begun() == 2)
        place.let_go()
        assert future.result(60).counts == {"01": 3}
        client.conclude()
    assert held.wait().state == "finished"


def test_a_failed_loop_is_a_failed_job(place: Place) -> None:
    held = place.hold()
    with closing(held.client()) as client:
        assert client.conclude(failure="ValueError: no minimum")
        with pytest.raises(SessionEndedError):
            client.submit(CIRCUIT, 1, False)
    ended = held.wait()
    assert (ended.state, ended.reason) == ("failed", "ValueError: no minimum")


class ResetDoor(SessionServerAddress):
    """One whose connections are reset when they have just been made, as where the other side ends."""

    def _socket(self) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return socket.create_connection(server.getsockname())


def test_a_link_that_is_reset_before_its_handshake_is_an_error_and_closed(place: Place) -> None:
    with pytest.raises(OSError, match=r"reset|not connected"):
        ResetDoor("", place.certificate).connect()
    gc.collect()  # a socket that is left open is an error of this test


def test_who_does_not_know_a_secret_is_not_let_in(place: Place) -> None:
    held = place.hold()
    link = SessionServerAddress(f"127.0.0.1:{place.port}", place.certificate).connect()
    with link, pytest.raises(SessionNotOpenError):
        attach(link, secrets.token_bytes(32))
    with closing(held.client()):
        pass


def test_a_session_that_has_ended_lets_nobody_in(place: Place) -> None:
    held = place.hold()
    held.finish("TIMEOUT")
    held.wait()
    with pytest.raises(SessionNotOpenError):
        held.client()


def test_a_client_gets_no_further_than_its_own_session(place: Place) -> None:
    one, other = place.hold(), place.hold()
    door = SessionServerAddress(f"127.0.0.1:{place.port}", place.certificate)
    with door.connect() as theirs, door.connect() as link:
        victim, _ = attach(theirs, other.secret)
        attach(link, one.secret)
        for message in (
            Execute(task=victim.task, seq=0, circuit=CIRCUIT, shots=1),
            Await(task=victim.task, seq=0),
            GetStatus(),
        ):
            link.sendall(frame(1, encode(message)))
            frames, taken = FrameReader(10_000), None
            while taken is None or taken[0] != 1:
                taken = frames.take()
                if taken is None:
                    frames.feed(link.recv(10_000))
            answer = decode_reply(taken[1])
            assert isinstance(answer, Refused)
            assert answer.kind == "permission"
    assert place.begun() == 0


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(0, b"x" * 5000),
        frame(0, msgspec.msgpack.encode({"secret": 1})),
        frame(0, msgspec.msgpack.encode(SessionHello(PROTOCOL, b""))),
        (0).to_bytes(5, "big"),
    ],
)
@pytest.mark.parametrize("safe", [True, False])
def test_what_strangers_say_ends_their_connection(place: Place, said: bytes, *, safe: bool) -> None:
    door = SessionServerAddress(f"127.0.0.1:{place.port}", place.certificate)
    with door.connect() if safe else socket.create_connection(("127.0.0.1", place.port), 30) as link:
        link.settimeout(30)
        link.sendall(said)
        try:
            while link.recv(1000):
                pass
        except ConnectionError:
            pass
    assert place.dispatcher.status().ready


def _proxy(listener: socket.socket, answer: bytes, asked: list[bytes]) -> None:
    """A proxy for one connection."""
    near, _ = listener.accept()
    with near:
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(1000)
        asked.append(head)
        near.sendall(answer)
        if b" 200 " in answer:
            with socket.create_connection(host_and_port(head.split()[1].decode())) as far:
                back = threading.Thread(target=_carry, args=(far, near))
                back.start()
                _carry(near, far)
                back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 Connected\r\n\r\n", b"HTTP/1.1 403 Forbidden\r\n\r\n"])
def test_a_session_goes_through_the_proxy_of_a_center(place: Place, answer: bytes) -> None:
    held = place.hold()
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_proxy, args=(listener, answer, asked))
        thread.start()
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        door = SessionServerAddress(f"127.0.0.1:{place.port}", place.certificate, proxy)
        if b" 200 " in answer:
            with door.connect() as link:
                assert attach(link, held.secret)[0].backend == "qx"
        else:
            with pytest.raises(UnreachableError, match="403 Forbidden"):
                door.connect()
        thread.join(60)
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{place.port} HTTP/1.1\r\n".encode())


def test_another_door_is_not_taken_for_the_right_one(place: Place, home: Path) -> None:
    from qslurm.protocol.tls_certificate import ensure_certificate, read_certificate

    ensure_certificate(home / "other.key")
    assert (home / "other.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnreachableError, match="not this C2's session server"):
        SessionServerAddress(f"127.0.0.1:{place.port}", read_certificate(home / "other.key")).connect()


def test_a_forked_process_is_told_that_it_has_no_session(place: Place) -> None:
    held = place.hold()
    with closing(held.client()) as client:
        child = os.fork()
        if child == 0:
            try:
                client.execute(CIRCUIT, 1, False)
            except QslurmError as error:
                os._exit(7 if "forked" in str(error) else 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
