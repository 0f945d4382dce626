"""A quantum computer's control computer, as a process: real ZeroMQ on loopback, counts from QX, faults on demand.

It speaks the published command set (protocol version 3) on one port and publishes its state on another. Tests
hold a `Qpu`; what they order travels to the process as lines of JSON and is done before the next line is read.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

QUBITS = 5
HEARTBEAT_S = 0.05


class Qpu:
    """The process, from a test's side. `strict` servers refuse to execute or end another session than theirs."""

    def __init__(self, *, strict: bool = True, qubits: int = QUBITS, version: int = 3) -> None:
        self._settings = {"strict": strict, "qubits": qubits, "version": version, "command": 0, "status": 0}
        self.start()

    def start(self) -> None:
        """Start it, the first time or again: at the same ports, with nothing remembered."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(self._settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._settings |= self.do()["ports"]

    @property
    def options(self) -> dict[str, Any]:
        """What a backend's `options` have to say to reach it, with limits that no busy machine exceeds."""
        return {
            "host": "127.0.0.1",
            "command_port": self._settings["command"],
            "status_port": self._settings["status"],
            "heartbeat_s": 2 * HEARTBEAT_S,
            "missed_heartbeats": 300,
            "reply_timeout_s": 30.0,
            "initialize_timeout_s": 30.0,
            "execute_timeout_s": 30.0,
            "release_after_s": 60.0,
        }

    def do(self, **order: Any) -> dict[str, Any]:
        """Give an order (see `Server.obey`); the answer is how it is: state, session, commands so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def commands(self) -> list[str]:
        """The commands it has been given so far, oldest first, without questions for facts."""
        return [name for name in self.do()["commands"] if not name.startswith("get_")]

    def renew(self) -> None:
        """Let it be as if it had just been started."""
        if self._process.poll() is None:
            self.do(renew=True)
        else:
            self.start()

    def kill(self) -> None:
        """Pull its plug."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Server:
    """What runs in the process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import zmq

        self.context = zmq.Context()
        self.replies = self.context.socket(zmq.ROUTER)  # a REP that can also say nothing
        self.status = self.context.socket(zmq.PUB)
        for socket in (self.replies, self.status):
            socket.linger = 0
        self.replies.bind(f"tcp://127.0.0.1:{settings['command'] or '*'}")
        self.status.bind(f"tcp://127.0.0.1:{settings['status'] or '*'}")
        self.settings = settings
        self.renew()

    def renew(self) -> None:
        self.session = ""
        self.commands: list[str] = []
        self.offline = self.mute = False
        self.calibrating_until = 0.0
        self.faults: dict[str, list[Any]] = {}
        self.top = 0
        self.wide = False
        self.busy_until = 0.0
        self.held: list[bytes] | None = None

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Orders: offline, calibrating (or for how many seconds), mute (publish nothing), top (the most frequent
        results only, 0: all), wide (keys as wide as the machine), lock
        (somebody's session), publish (text for those who listen), and faults: {command: [fault, …]} for the next
        of those commands, one after the other, each of: "drop", "rubbish", "wrong session", "wrong job",
        "refuse", "narrow", "letters", "too many", "none", "hold" (until the order `release`), "freeze" (hold, and
        publish nothing until then), or seconds to be late. All are set, not toggled. `renew` forgets everything first.
        """
        if "renew" in order:
            self.renew()
        if "release" in order:
            self.busy_until, self.mute = 0.0, False
        if "calibrating" in order:
            wanted = order["calibrating"]
            seconds = wanted if isinstance(wanted, float) else 1e9 if wanted else -1.0
            self.calibrating_until = time.monotonic() + seconds
        for name in ("offline", "mute", "top", "wide", "faults"):
            if name in order:
                setattr(self, name, order[name])
        if "lock" in order:
            self.session = order["lock"]
        if "publish" in order:
            self.status.send(order["publish"].encode())
        self.publish()
        ports = {
            name: int(socket.last_endpoint.rsplit(b":", 1)[1])
            for name, socket in (("command", self.replies), ("status", self.status))
        }
        return {"state": self.state, "session": self.session, "commands": self.commands, "ports": ports}

    @property
    def state(self) -> str:
        if self.offline:
            return "OFFLINE"
        if time.monotonic() < self.calibrating_until:
            return "CALIBRATING"
        return "EXECUTING" if self.session else "IDLE"

    def publish(self) -> None:
        if not self.mute:
            payload = {"state": self.state, "timestamp": time.time()}
            self.status.send_json({"command": "publish_state", "payload": payload})

    def run(self) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        poller.register(self.replies, zmq.POLLIN)
        heartbeat = 0.0
        while True:
            ready = dict(poller.poll(5))
            if sys.stdin.fileno() in ready:
                line = sys.stdin.buffer.raw.readline()  # type: ignore[attr-defined]
                if not line:
                    return
                sys.stdout.write(json.dumps(self.obey(json.loads(line))) + "\n")
                sys.stdout.flush()
            now = time.monotonic()
            if self.held is not None and now >= self.busy_until:
                frames, self.held = self.held, None
                self.replies.send_multipart(frames)
            if self.held is None and self.replies in ready:
                self.serve(self.replies.recv_multipart())
            if now >= heartbeat:
                self.publish()
                heartbeat = now + HEARTBEAT_S

    def serve(self, frames: list[bytes]) -> None:
        request = json.loads(frames[-1])
        command = request["command"]
        self.commands.append(command)
        faults = self.faults.get(command, [])
        fault = faults.pop(0) if faults else None
        payload, failure = self.perform(command, request)
        if fault == "refuse":
            payload, failure = None, "the fridge is warm"
        reply: dict[str, Any] = {
            "session_id": request["session_id"],
            "status": "failure" if failure else "success",
            "payload": {"error_msg": failure} if failure else payload,
        }
        if fault == "drop":
            return
        if fault == "wrong session":
            reply["session_id"] = str(uuid.uuid4())
        if isinstance(payload, dict):
            spoil(payload, fault)
        text = b"\xff{" if fault == "rubbish" else json.dumps(reply).encode()
        held = fault in {"hold", "freeze"}
        self.mute = self.mute or fault == "freeze"
        late = float("inf") if held else fault if isinstance(fault, int | float) else 0.0
        self.busy_until = time.monotonic() + late
        self.held = [*frames[:-1], text]

    def perform(self, command: str, request: dict[str, Any]) -> tuple[Any, str]:
        """The payload, or why not."""
        mine = not self.settings["strict"] or request["session_id"] == self.session
        match command:
            case "initialize":
                if self.session or self.offline:
                    return None, "somebody is using it" if self.session else "it is switched off"
                self.session, self.calibrating_until = request["session_id"], 0.0
            case "terminate":
                if self.session and not mine and self.session != "dead":
                    return None, "that is not your session"
                self.session = ""
            case "execute":
                if not self.session or not mine:
                    return None, "it has not been initialised"
                return self.execute(request["payload"])
            case "get_static":
                pairs = [[a, a + 1] for a in range(self.settings["qubits"] - 1)]
                return {
                    "protocol_version": self.settings["version"], "nqubits": self.settings["qubits"],
                    "topology": pairs, "name": "simulated", "pgs": ["H", "CNOT"], "default_compiler_config": {},
                    "starttime": 0.0, "supports_raw_data": True,
                }, ""  # fmt: skip
            case "get_dynamic":
                return {"fidelity": 0.99}, ""
            case _:
                return None, f"it does not know {command}"
        return {}, ""

    def execute(self, job: dict[str, Any]) -> tuple[Any, str]:
        import qxelarator

        shots = job["number_of_shots"]
        result = qxelarator.execute_string(job["circuit"], iterations=shots)
        if isinstance(result, qxelarator.SimulationError):
            return None, "it can't compile that"
        width = self.settings["qubits"] if self.wide else 0
        counts = Counter({key.rjust(width, "0"): count for key, count in result.results.items()})
        raw = list(counts.elements()) if job.get("include_raw_data") else None
        best = dict(counts.most_common(self.top or None))
        return {"job_id": job["job_id"], "results": best, "raw_data": raw}, ""


def spoil(payload: dict[str, Any], fault: Any) -> None:
    """Make a good result a bad one."""
    match fault:
        case "wrong job":
            payload["job_id"] += 1
        case "narrow":
            payload["results"] = {"0": 1}
        case "letters":
            payload["results"] = {"0a": 1}
        case "too many":
            payload["results"] = dict.fromkeys(payload["results"], 10**9)
        case "none":
            payload["results"] = {}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[4]))
    Server(json.loads(sys.argv[1])).run()
