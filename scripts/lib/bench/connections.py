"""Requests over one persistent connection, and over a new connection for each.

First submissions to a real slurmrestd, ours and those of a plain requests.Session. Then requests to a server that
behaves like Slurm 23.02's slurmrestd: it writes headers and body separately with Nagle's algorithm on, so the second
write waits for the client's ACK of the first, which Linux delays by up to 40 ms on a persistent connection.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import requests

from bench.clusters import Center, center
from bench.report import Report
from qslurm.slurm.rest.endpoint import Endpoint
from qslurm.slurm.rest.transport import Transport
from qslurm.tokens.secret import Secret

COUNT = 200
ANSWER = b'{"pings": []}' * 200
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)

Send = Callable[[bytes], object]
Way = Callable[[], tuple[Send, Callable[[], object]]]


def run(report: Report) -> None:
    """Measure in turn: ours with one and with new connections, and a plain session."""
    with center(report) as c1:
        if c1 is not None:
            _compare(
                report,
                f"slurmrestd {c1.testbed.layout.slurm}, submissions",
                _to_slurm(c1),
                lambda: _fresh(c1),
                c1.clear,
            )
    with _late_writer() as url:
        _compare(
            report,
            "headers and body separately, requests",
            _ways(url, "/", {}),
            lambda: [b"{}"] * COUNT,
            lambda: None,
        )


def _compare(
    report: Report,
    where: str,
    ways: dict[str, Way],
    bodies: Callable[[], list[bytes]],
    clear: Callable[[], None],
) -> None:
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(report.runs):
        for name, way in ways.items():
            rates[name].append(_rate(way, bodies()))
            clear()
    peer = None
    for name, values in rates.items():
        middle = report.add(f"{where}: {name}", values, unit="1/s", peer=peer)
        peer = peer or middle


def _rate(way: Way, bodies: list[bytes]) -> float:
    send, close = way()
    send_first, bodies = bodies[0], bodies[1:]
    send(send_first)  # connections are made, modules loaded
    began = time.perf_counter()
    for body in bodies:
        send(body)
    seconds = time.perf_counter() - began
    close()
    return len(bodies) / seconds


def _ways(url: str, path: str, headers: dict[str, str]) -> dict[str, Way]:
    token = headers.get("X-SLURM-USER-TOKEN", "")
    user = headers.get("X-SLURM-USER-NAME", "")

    def ours(*, kept: bool) -> Way:
        def way() -> tuple[Send, Callable[[], object]]:
            transport = Transport(Endpoint(url, Secret(token), user, timeout_s=60))

            def send(body: bytes) -> None:
                answer = transport.send("POST", path, body, submitting=True)
                _refuse_failure(answer.status, answer.body)
                if not kept:
                    transport.close()

            return send, transport.close

        return way

    def plain() -> tuple[Send, Callable[[], object]]:
        session = requests.Session()

        def send(body: bytes) -> None:
            answer = session.post(
                url + path, data=body, headers=headers | {"Content-Type": "application/json"}, timeout=60
            )
            _refuse_failure(answer.status_code, answer.content)

        return send, session.close

    return {
        "new connection for each": ours(kept=False),
        "one connection": ours(kept=True),
        "a plain session": plain,
    }


def _refuse_failure(status: int, body: bytes) -> None:
    if status != 200:
        raise RuntimeError(f"HTTP {status}: {body[:300]!r}")


def _to_slurm(c1: Center) -> dict[str, Way]:
    return _ways(c1.testbed.rest_url, c1.submit_path, c1.headers)


def _fresh(c1: Center) -> list[bytes]:
    return c1.payloads(c1.circuits(1) * COUNT)


@contextmanager
def _late_writer() -> Iterator[str]:
    """Run a server that writes like Slurm 23.02's slurmrestd."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            link, _ = listener.accept()
        except OSError:  # the bench is over
            return
        with closing(link):
            _converse(link)


def _converse(link: socket.socket) -> None:
    heard = b""
    while piece := link.recv(65536):
        heard += piece
        head, end, body = heard.partition(b"\r\n\r\n")
        length = next(
            (
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length")
            ),
            0,
        )
        if end and len(body) >= length:
            heard = b""
            link.sendall(HEADERS)
            link.sendall(ANSWER)
