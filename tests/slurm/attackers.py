"""Attacks by a center: each is a function, and ATTACKS has all of them."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import sys
from collections.abc import Callable

import floods
import harm
from c2_platform import BELL, HAND_OVER
from foreign_center import AttackingCenter

from qslurm.payload.envelope import Envelope, pack
from tests.unit.c2.dispatcher.running import deadly_circuit

ODD_REQUESTS = [
    "DELETE /slurm/slurmdb/v0.0.36/qos/normal",
    "DELETE /slurm/slurmdb/v0.0.37/qos/normal",
    "DELETE /slurm/slurmdb/v0.0.38/qos/normal",
    "DELETE /slurm/slurmdb/v0.0.38/../v0.0.36/qos/normal",
    "DELETE /slurm/slurm/v0.0.38/job/%2e%2e/%2e%2e/%2e%2e/slurmdb/v0.0.36/qos/normal",
    "DELETE /slurm//slurmdb/v0.0.36/qos/normal",
    "DELETE /slurm/./slurmdb/v0.0.36//qos/normal",
    "DELETE /slurm/slurmdb/v0.0.36/qos/normal?x=/slurm/slurm/v0.0.38/job/1",
    "DELETE /slurm/slurmdb/v0%2e0%2e36/qos/normal",
    "DELETE /slurm/slurm/v0.0.38/job/1%0a",
    "DELETE /slurm/slurmdb/v0.0.38/jobs",
    "GET /slurm/slurm/v0.0.38/nodes",
    "GET /slurm/slurm/v0.0.38/diag",
    "GET /slurm/slurmdb/v0.0.38/users",
    "GET /slurm/slurmdb/v0.0.38/associations",
    "GET /slurm/openapi/v3",
    "PUT /slurm/slurm/v0.0.38/job/1",
    "OPTIONS /slurm/slurm/v0.0.38/jobs",
    "TRACE /slurm/slurm/v0.0.38/jobs",
    "POST /slurm/slurm/v0.0.38/node/qi1",
]
"""What qslurm never asks slurmrestd for."""


Attack = Callable[[AttackingCenter], object]

SLOW = "POST /quantum-inspire/projects HTTP/1.1\r\nHost: x\r\nTOKENContent-Length: 1000000\r\n\r\n{"
CHUNKS = "POST /quantum-inspire/projects HTTP/1.1\r\nHost: x\r\nTOKENTransfer-Encoding: chunked\r\n\r\n"
WAITS = "GET /v1/changes?since=0&wait=50 HTTP/1.1\r\nHost: x\r\nTOKEN\r\n"
LISTS = "GET /v1/jobs?limit=1000 HTTP/1.1\r\nHost: x\r\nTOKEN\r\n"
LARGE = "version 3.0\n" + f"// {'x' * 75}\n" * 50_000 + "Foo q[0]\n"
"""Read in time. One of 480,000 gates is not: who executes it reads it again, for minutes of the backend's time."""
NUMBERS = ("0", "-1", "1.5", "x", str(2**31), str(2**63), str(2**64), "9" * 400, "%00", "..", "1_1", "٣")
PATHS = ("/v1/jobs/{}", "/v1/jobs/{}/results", "/v1/jobs/{}/logs", "/v1/results?jobs={}", "/v1/keys/{}",
         "/quantum-inspire/jobs/{}", "/quantum-inspire/results/job/{}", "/quantum-inspire/final_results/job/{}",
         "/quantum-inspire/files/{}", "/quantum-inspire/projects/{}")  # fmt: skip
FILTERS = ("search=mark", "name=mark", "name=%25", "sort_by=-id", "size=100", "page=99999999999999999999",
           "owner_id=0", "search=' OR 1=1 --", "size=0", "x=1")  # fmt: skip
COMMANDS = ("scancel JOB", "scancel --signal=KILL JOB", "scontrol hold JOB", "scontrol requeue JOB",
            "scontrol suspend JOB", "scontrol update JobId=JOB TimeLimit=1", "scontrol update JobId=JOB Comment=lumi",
            "scontrol write batch_script JOB -", "scontrol show job JOB", "squeue --jobs=JOB", "sacct --jobs=JOB",
            "sacct --allusers --batch-script --jobs=JOB", "scancel --user=center_snellius",
            "scontrol update NodeName=ALL State=DRAIN Reason=lumi", "scontrol update PartitionName=p_qx State=DOWN",
            "scontrol reconfigure", "scontrol shutdown", "sacctmgr --immediate delete account snellius",
            "sbatch --account=snellius --partition=p_qx --wrap=true", "qslurm partition drain p_qx",
            "qslurm backend offline qx", "sbatch --uid=center_snellius --partition=p_qx --wrap=true")  # fmt: skip


def endless_body(lumi: AttackingCenter) -> None:
    lumi.raw(CHUNKS + "40000\r\n" + " " * 0x40000 + "\r\n", times=64)


def rubbish(lumi: AttackingCenter) -> None:
    lumi.again(lambda: lumi.sends("\x16\x03\x01 rubbish\r\n\r\n"))


def nested(lumi: AttackingCenter) -> None:
    body = '{"a": [' + ",".join(["[]"] * 1_000_000) + "]}"
    lumi.again(lambda: lumi.ask("POST", "/quantum-inspire/files", data=body))


def circuit_by_api(lumi: AttackingCenter) -> None:
    project = lumi.by_api("projects", owner_id=1, name="p", description="")
    number = lumi.by_api("algorithms", project_id=project, type="quantum", shared="team", name="a")
    commit = lumi.by_api("commits", algorithm_id=number, description="")
    file = {"commit_id": commit, "content": LARGE, "language_id": 1, "compile_stage": "none"}
    file_id = lumi.by_api("files", **file, compile_properties={})
    (backend, *_) = lumi.ask("GET", "/quantum-inspire/backend_types/").json()["items"]
    batch = lumi.by_api("batch_jobs", backend_type_id=backend["id"])
    job = {"file_id": file_id, "batch_job_id": batch, "number_of_shots": 1}
    lumi.again(lambda: lumi.ask("POST", "/quantum-inspire/jobs", json=job))


def forged_tokens(lumi: AttackingCenter) -> None:
    head, body, signature = lumi.token.split(".")

    def part(text: str, **changes: object) -> str:
        document = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return base64.urlsafe_b64encode(json.dumps(document | changes).encode()).decode().rstrip("=")

    snellius = part(body, sun="center_snellius", center="snellius")
    for token in (
        f"{head}.{snellius}.{signature}", f"{part(head, alg='none')}.{snellius}.",
        f"{head}.{body}.{signature[:-6]}AAAAAA",
        f"{part(head, kid='snellius')}.{body}.{signature}", f"{part(head, kid='snellius')}.{snellius}.{signature}",
        f"{part(head, alg='HS256')}.{snellius}.{signature}", f"{head}.{body}", "x" * 4000, "...",
    ):  # fmt: skip
        assert lumi.ask("GET", "/v1/jobs", token).status_code == 401, token
        assert not lumi.restd("GET", "slurm/v0.0.38/jobs", "center_snellius", token).ok, token
    assert not lumi.restd("GET", "slurm/v0.0.38/jobs", "center_snellius").ok
    assert not lumi.restd("GET", "slurm/v0.0.38/jobs", "root").ok


def numbers(lumi: AttackingCenter) -> None:
    for path in PATHS:
        for number in NUMBERS:
            lumi.ask("GET", path.format(number))


def anothers_ids(lumi: AttackingCenter) -> None:
    for path in PATHS[:3]:
        for job_id in (lumi.target.running, lumi.target.past):
            assert lumi.ask("GET", path.format(job_id)).status_code == 404
    for number in range(1, 30):
        for path in PATHS[5:]:
            lumi.ask("GET", path.format(number))


def deletes(lumi: AttackingCenter) -> None:
    for number in {lumi.target.project, *range(1, 30)}:
        lumi.ask("DELETE", f"/quantum-inspire/projects/{number}")
        lumi.ask("PATCH", f"/quantum-inspire/projects/{number}", json={"name": "lumi was here"})
        lumi.ask("PATCH", f"/quantum-inspire/jobs/{number}", json={"status": "cancelled"})
    assert lumi.ask("DELETE", "/quantum-inspire/projects?search=mark").status_code in {404, 405, 422}


def filters(lumi: AttackingCenter) -> None:
    for kind in ("projects", "algorithms", "files", "batch_jobs", "jobs"):
        for query in FILTERS:
            lumi.ask("GET", f"/quantum-inspire/{kind}?{query}")


def lists(lumi: AttackingCenter) -> None:
    paths = (
        "/v1/jobs?limit=1000",
        "/v1/usage",
        "/v1/queue",
        "/v1/places",
        "/v1/loads",
        "/v1/backends",
        "/v1/sessions",
    )
    lumi.again(lambda: [lumi.ask("GET", path) for path in paths])


def odd_requests(lumi: AttackingCenter) -> None:
    context = ssl.create_default_context(cafile=str(lumi.proxy.certificate))
    for line in ODD_REQUESTS:
        with (
            socket.create_connection(("127.0.0.1", lumi.proxy.port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as link,
        ):
            headers = f"Host: c2\r\nX-SLURM-USER-NAME: center_lumi\r\nX-SLURM-USER-TOKEN: {lumi.token}\r\n"
            link.sendall(f"{line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode())
            lumi.seen.append(b"".join(iter(lambda link=link: link.recv(1 << 16), b"")))
            assert b"nginx" in lumi.seen[-1]


def jobs_of_others_by_slurmrestd(lumi: AttackingCenter) -> None:
    for job_id in (lumi.target.running, lumi.target.past):
        for method, body in (
            ("GET", None),
            ("DELETE", None),
            ("POST", {"comment": "lumi was here", "time_limit": 1}),
        ):
            lumi.restd(method, f"slurm/v0.0.38/job/{job_id}", json=body)
        lumi.restd("GET", f"slurmdb/v0.0.38/job/{job_id}")


def floods_slurmrestd(lumi: AttackingCenter) -> None:
    lumi.again(lambda: lumi.restd("GET", "slurm/v0.0.38/jobs"))


def half_handshakes(lumi: AttackingCenter) -> None:
    for _ in range(200):
        link = socket.create_connection(("127.0.0.1", lumi.proxy.port), timeout=60)
        lumi.keep(link)
        link.sendall(b"\x16\x03\x01\x02\x00\x01")


def odd_payloads(lumi: AttackingCenter) -> None:
    """Raw ones, with folders and files of snellius', environments that are run, and marks of snellius' jobs.

    Not among ATTACKS: one of these ends slurmrestd 22.05 ("free(): double free detected"), whatever is before it.
    """
    logs = lumi.layout.job_logs / "center_snellius"
    job = {
        "name": "x",
        "partition": "p_qx",
        "current_working_directory": "/",
        "environment": {"PATH": "/usr/bin:/bin"},
    }
    hybrid = (
        f"{HAND_OVER}{pack(Envelope(kind='hybrid', source=harm.READS.replace(', *FOLDERS', ''), file='x'))}\n"
    )
    past = str(logs / f"{lumi.target.past}.out")
    for more in (
        {"current_working_directory": str(logs)},
        {"current_working_directory": str(lumi.layout.work / "center_snellius")},
        {"standard_output": past, "standard_error": past},
        {"standard_input": past},
        {"account": "snellius"},
        {"environment": {"PATH": "/usr/bin", "BASH_ENV": past, "LD_PRELOAD": past}},
        {"comment": f"qslurm key={'0' * 16} kind=hybrid origin=shell:::qs_alice"},
        {"dependency": f"afterok:{lumi.target.running}"},
        {"argv": [past] * 50}, {"tasks": 10**9}, {"priority": 2**32 - 2}, {"nice": -(10**6)},
    ):  # fmt: skip
        answer = lumi.restd(
            "POST", "slurm/v0.0.38/job/submit", json={"job": job | more, "script": hybrid}
        ).json()
        if answer.get("job_id") and "dependency" not in more:
            lumi.jobs.append(answer["job_id"])
        elif answer.get("job_id"):
            lumi.arrays.append(answer["job_id"])


def slurms_commands(lumi: AttackingCenter) -> None:
    for words in COMMANDS:
        lumi.types(*words.replace("JOB", str(lumi.target.running)).split(" "))


def by_the_hundred(lumi: AttackingCenter) -> None:
    data = pack(Envelope(kind="circuit", source=BELL, shots=1))
    lumi.arrays.append(
        lumi.platform.submit(f"{HAND_OVER}{data}\n", "--array=0-99", user=lumi.user, kind="circuit")
    )


def held_by_the_hundred(lumi: AttackingCenter) -> None:
    lumi.arrays.append(lumi.platform.submit_script("true", "--hold", "--array=0-999", user=lumi.user))


def reads_as_a_script(lumi: AttackingCenter) -> None:
    layout = lumi.layout
    places = {
        "LOGS": layout.job_logs,
        "WORK": layout.work,
        "SPOOL": layout.spool("c2"),
        "STORE": layout.store.parent,
    }
    script = harm.READS_AS_A_SCRIPT
    for word, place in places.items():
        script = script.replace(word, str(place))
    lumi.runs(script, "script")


def kills_as_a_script(lumi: AttackingCenter) -> None:
    lumi.runs(harm.KILLS_AS_A_SCRIPT, "script")


def prints_as_a_script(lumi: AttackingCenter) -> None:
    lumi.runs("#!/bin/bash\nyes | head -c 300000000\n", "script")


def asks_for_others_jobs(lumi: AttackingCenter) -> None:
    ids = str([lumi.target.running, lumi.target.past])
    lumi.runs(harm.ASKS.replace("JOB_IDS", ids) + harm.ASKS_AS_HYBRID)


def asks_for_others_jobs_as_a_script(lumi: AttackingCenter) -> None:
    source = harm.ASKS.replace("JOB_IDS", str([lumi.target.running, lumi.target.past])) + "print(attack())\n"
    lumi.runs(f"#!/bin/bash\n{sys.executable} -I - <<'END'\n{source}END\n", "script")


ATTACKS: dict[str, Attack] = {
    **{f"dispatcher: {one.__name__}": lambda lumi, one=one: lumi.flood(one, lumi.layout.dispatcher_socket)
       for one in floods.DISPATCHER},
    **{f"runtimes: {one.__name__}": lambda lumi, one=one: lumi.flood(one, lumi.layout.runtimes_socket)
       for one in floods.RUNTIMES},
    **{f"feed: {one.__name__}": lambda lumi, one=one: lumi.flood(one, lumi.layout.feed_socket) for one in floods.FEED},
    "munged": lambda lumi: lumi.flood(floods.rubbish_at_munged, lumi.layout.munge_socket("c2")),
    "tokens": lambda lumi: lumi.flood(floods.silence_at_the_feed, lumi.layout.tokens_socket),
    "job manager: silence": lambda lumi: lumi.raw("", times=300),
    "job manager: slow bodies without a token": lambda lumi: lumi.raw(SLOW.replace("TOKEN", ""), times=300),
    "job manager: slow bodies": lambda lumi: lumi.raw(SLOW, times=200),
    "job manager: waits for changes": lambda lumi: lumi.raw(WAITS, times=200),
    "job manager: takes no answers": lambda lumi: lumi.raw(LISTS * 20, times=60),
    **{f"job manager: {one.__name__}": one for one in (
        endless_body, rubbish, nested, circuit_by_api, forged_tokens, numbers, anothers_ids, deletes, filters, lists)},
    **{f"way in: {one.__name__}": one for one in (
        odd_requests, jobs_of_others_by_slurmrestd, floods_slurmrestd, half_handshakes)},
    **{f"Slurm: {one.__name__}": one for one in (slurms_commands, by_the_hundred, held_by_the_hundred)},
    **{f"script: {one.__name__}": one for one in (
        reads_as_a_script, kills_as_a_script, prints_as_a_script, asks_for_others_jobs_as_a_script)},
    **{f"hybrid: {name}": lambda lumi, source=source: lumi.runs(f"found = {{}}\n{source}{harm.FINALIZE}")
       for name, (source, _) in harm.HARM.items()},
    "hybrid: asks for others' jobs": asks_for_others_jobs,
    "hybrid: reads": lambda lumi: lumi.runs(harm.READS),
    "hybrid: kills": lambda lumi: lumi.runs(harm.KILLS),
    "hybrid: traces": lambda lumi: lumi.runs(harm.TRACES),
    "hybrid: leaves files": lambda lumi: lumi.runs(harm.LEAVES.replace("TESTBED", lumi.testbed.name)),
    "hybrid: executes without pause": lambda lumi: lumi.runs(harm.BUSY, times=4),
    "hybrid: bad circuits": lambda lumi: lumi.runs(harm.REFUSED, times=2),
    "hybrid: large results": lambda lumi: lumi.runs(harm.LARGE_RESULT, times=8),
    "hybrid: deep result": lambda lumi: lumi.runs(harm.DEEP_RESULT),
    "hybrid: strange result": lambda lumi: lumi.runs(harm.STRANGE_RESULT),
    "hybrid: writes to what it inherited": lambda lumi: lumi.runs(harm.WRITES_TO_WHAT_IT_INHERITED),
    "circuit: 4 MB": lambda lumi: lumi.runs(LARGE, "circuit", times=8),
    "circuit: ends its reader": lambda lumi: lumi.runs(deadly_circuit(), "circuit", times=4),
}  # fmt: skip
