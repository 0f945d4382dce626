"""A server that stops in the middle of a response, sends it slowly or without end, over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from recordings import TOKEN

from qslurm.errors import (
    UncertainError,
    UnreachableError,
)
from qslurm.slurm.rest import SlurmrestClient
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.tokens.secret import Secret
from tests.unit.waiting import until

PAYLOAD = {"job": {"partition": "p_qx", "environment": ["PATH=/bin"]}, "script": "#!/bin/sh\n"}
OK = {"errors": [], "job_id": 7, "step_id": "batch", "job_submit_user_msg": "welcome"}


@pytest.fixture
def bad_server():
    """Answers each connection's first request with the given bytes, and hangs up (or not)."""
    threads: list[threading.Thread] = []
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def start(answer: bytes, *, hang_up: bool = True) -> str:
        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if not hang_up:
                    stop.wait(30)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    listener.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        HEAD + b"Content-Length: 100\r\n\r\n{}",
        HEAD + b'Content-Length: 9\r\n\r\n{"job_id"',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    ],
)
def test_half_an_answer_to_a_submission_leaves_a_doubt(answer, bad_server):
    with (
        SlurmrestClient(Endpoint(bad_server(answer), Secret(TOKEN), "u"), api_version="39") as client,
        pytest.raises(UncertainError),
    ):
        client.submit(PAYLOAD)


@pytest.mark.parametrize("answer", [b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"])
def test_a_server_that_stops_talking_is_not_waited_for(answer, bad_server):
    url = bad_server(answer, hang_up=False)
    client = SlurmrestClient(Endpoint(url, Secret(TOKEN), "u", 0.2), api_version="39")
    with client, pytest.raises(UncertainError):
        client.submit(PAYLOAD)


@pytest.mark.parametrize(
    "begun", [b"HTTP/1.1 200", HEAD + b"X-Endless: ", HEAD + b"Content-Length: 99999\r\n\r\n"]
)
def test_a_server_that_sends_a_byte_now_and_then_keeps_nobody_longer(begun):
    left, over = threading.Event(), threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(begun)
            try:
                while not over.wait(0.01):  # each byte well within the client's patience
                    connection.sendall(b"x")
            except OSError:
                left.set()

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(2) as threads:
        threads.submit(drip, listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with SlurmrestClient(Endpoint(url, Secret(TOKEN), "u", 0.2), api_version="39") as client:
            submission = threads.submit(client.submit, PAYLOAD)
            try:
                until(left.is_set)
            finally:
                over.set()
            with pytest.raises(UncertainError):
                submission.result()


def test_an_endless_answer_is_cut(bad_server, monkeypatch):
    monkeypatch.setattr("qslurm.slurm.rest.transport.MAX_ANSWER", 1024 * 1024)
    url = bad_server(HEAD + b"\r\n" + b" " * (2 * 1024 * 1024), hang_up=False)
    with (
        SlurmrestClient(Endpoint(url, Secret(TOKEN), "u"), api_version="39") as client,
        pytest.raises(UnreachableError, match="more than 1 MiB"),
    ):
        client.ping()


def test_a_good_answer_over_a_real_socket(bad_server):
    body = json.dumps(OK).encode()
    url = bad_server(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    with SlurmrestClient(Endpoint(url, Secret(TOKEN), "u"), api_version="39") as client:
        assert client.submit(PAYLOAD).job_id == 7
