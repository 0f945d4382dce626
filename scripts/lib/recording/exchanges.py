"""Send requests to slurmrestd and write each with its response to a file, without traces of this host."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

from testbed import Testbed

Answer = dict[str, Any]

KEPT_HEADERS = ("Connection", "Content-Length", "Content-Type")
ANSWER_S = 60.0


class Recorder:
    """Records one API version of a testbed into a folder."""

    def __init__(self, testbed: Testbed, version: str, folder: Path) -> None:
        self.testbed = testbed
        self.version = version
        self.count = 0
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._tokens = {center: testbed.token(center) for center in ("snellius", "lumi")}

    def headers(self, center: str = "snellius") -> dict[str, str]:
        """A center's headers for each request."""
        return {"X-SLURM-USER-NAME": f"center_{center}", "X-SLURM-USER-TOKEN": self._tokens[center]}

    def forged(self) -> dict[str, str]:
        """The same headers with a token that is signed by none of C2's keys."""
        head, claims, signature = self._tokens["snellius"].split(".")
        return self.headers() | {"X-SLURM-USER-TOKEN": f"{head}.{claims}.{signature[::-1]}"}

    def submit(self, name: str, payload: object, *, note: str = "", **options: Any) -> Answer:
        """Record a submission; a payload of type str is sent unchanged."""
        return self.exchange(name, "POST", "{control}/job/submit", payload, note=note, **options)

    def exchange(
        self,
        name: str,
        method: str,
        path: str,
        body: object = None,
        *,
        note: str = "",
        headers: dict[str, str] | None = None,
        jobs: int = 0,
    ) -> Answer:
        """Send a request, record the exchange, and return the response.

        With an empty name nothing is recorded; of a list of jobs only the last `jobs` are.
        """
        path = path.format(control=f"/slurm/{self.version}", accounting=f"/slurmdb/{self.version}")
        sent = self.headers() if headers is None else headers
        answer = ask(self.testbed, method, path, body, sent)
        if jobs and "jobs" in answer["body"]:
            answer["body"]["jobs"] = answer["body"]["jobs"][-jobs:]
        if name:
            request = {"method": method, "path": path, "headers": self._harmless(sent), "body": body}
            self._write(name, {"name": name, "note": note, "request": request, "response": answer})
            self.count += 1
        return answer

    def _harmless(self, headers: dict[str, str]) -> dict[str, str]:
        return {name: _without_token(value) for name, value in headers.items()}

    def _write(self, name: str, exchange: Answer) -> None:
        text = json.dumps(exchange, indent=1, ensure_ascii=False)
        text = text.replace(str(self.testbed.folder), "/srv/c2")
        text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "c2-head", text)
        (self._folder / f"{name}.json").write_text(text + "\n")


def _without_token(value: str) -> str:
    return re.sub(r"[\w-]+\.[\w-]+\.[\w-]+", "<token>", value)


def serves(testbed: Testbed, version: str) -> bool:
    """Whether C2's slurmrestd serves this API version."""
    headers = {"X-SLURM-USER-NAME": "center_snellius", "X-SLURM-USER-TOKEN": testbed.token()}
    return bool(ask(testbed, "GET", f"/slurm/{version}/ping", None, headers)["status"] == 200)


def ask(testbed: Testbed, method: str, path: str, body: object, headers: dict[str, str]) -> Answer:
    """Send one request on a new connection; its status, headers and body, which is parsed if it is JSON."""
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    typed = headers | ({"Content-Type": "application/json"} if data is not None else {})
    connection = http.client.HTTPConnection("127.0.0.1", testbed.ports["c2_slurmrestd"], timeout=ANSWER_S)
    try:
        connection.request(method, path, data, typed)
        answer = connection.getresponse()
        raw = answer.read()
    finally:
        connection.close()
    kept = {name: value for name in KEPT_HEADERS if (value := answer.getheader(name)) is not None}
    said = json.loads(raw) if kept.get("Content-Type") == "application/json" and raw else raw.decode()
    return {"status": answer.status, "headers": kept, "body": said}
