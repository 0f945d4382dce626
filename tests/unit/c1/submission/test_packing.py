"""Many files become few requests, in which every file is there once, with its own options and no other's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.c1.config.settings import Config
from qslurm.c1.submission import packing
from qslurm.c1.submission.packing import Package, packed
from qslurm.c1.submission.prepare import checked
from qslurm.errors import InvalidInputError
from qslurm.payload.build import payload_of
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import Envelope, pack, unpack
from qslurm.payload.spec import JobSpec

CIRCUIT = "version 3.0\nqubit[2] q\nbit[2] b\nRx({}) q[0]\nb = measure q\n"


def _prepared(requests, fewest=packing.FEWEST):
    ready = [checked(Config(), request, {"USER": "ann"}) for request in requests]
    return [Package(payload_of(one), members) for members, one in packed(ready, fewest=fewest)]


def _files(folder, texts):
    for number, text in enumerate(texts):
        (folder / f"rabi_{number:03}.cq").write_text(text)
    return [
        JobSpec(file=folder / f"rabi_{number:03}.cq", backend="qx", shots=7) for number in range(len(texts))
    ]


def test_many_files_are_one_array_whose_tasks_have_a_file_each(tmp_path):
    texts = [CIRCUIT.format(number / 10) for number in range(30)]
    (package,) = _prepared(_files(tmp_path, texts))
    job = package.payload["job"]
    assert (job["array"], job["name"], job["partition"]) == ("0-29", "rabi", "p_qx")
    assert (package.members, package.task_of(4)) == (tuple(range(30)), 4)
    envelope = unpack(package.payload["script"])
    for index, text in enumerate(texts):
        assert envelope.of_task(index) == Envelope("circuit", text, f"rabi_{index:03}.cq", shots=7)
    for nobody in (None, 30):
        with pytest.raises(InvalidInputError):
            envelope.of_task(nobody)


def test_few_files_and_those_that_shall_be_separate_are_jobs_of_their_own(tmp_path):
    texts = [CIRCUIT.format(number) for number in range(packing.FEWEST)]
    for packages in (
        _prepared(_files(tmp_path, texts)[1:]),
        _prepared(_files(tmp_path, texts), fewest=99),
    ):
        assert [package.is_array for package in packages] == [False] * len(packages)
        assert packages[-1].payload["job"]["name"] == f"rabi_{packing.FEWEST - 1:03}"
        assert len({Comment.parse(one.payload["job"]["comment"]).key for one in packages}) == len(packages)


def test_a_file_with_an_option_of_its_own_does_not_join_the_others(tmp_path):
    texts = [CIRCUIT.format(number) for number in range(25)]
    texts[3] = "// #QSLURM --seed 5\n" + texts[3]
    array, alone = _prepared(_files(tmp_path, texts))
    assert (alone.members, alone.is_array) == ((3,), False)
    assert unpack(alone.payload["script"]).seed == 5
    assert [array.task_of(place) for place in (0, 2, 4, 24)] == [0, 2, 3, 23]


@settings(max_examples=40)
@given(
    jobs=st.lists(
        st.tuples(st.sampled_from(["qx", "spin2"]), st.sampled_from([None, "0-3"]), st.integers(0, 60)),
        max_size=60,
    )
)
def test_no_file_is_lost_or_sent_twice_and_no_array_is_too_large(jobs):
    ready = [
        JobSpec(kind="circuit", source="x" * size, file=Path(f"{n}.cq"), backend=backend, indices=array or "")
        for n, (backend, array, size) in enumerate(jobs)
    ]
    found = packed(ready, fewest=5, most_tasks=7, most_bytes=100)
    assert Counter(place for members, _ in found for place in members) == Counter(range(len(jobs)))
    keys = [one.key for _, one in found]
    assert len(set(keys)) == len(keys)
    for members, one in found:
        if len(members) == 1:
            assert one is ready[members[0]]
            continue
        assert len(members) <= 7
        assert sum(len(source) + 2 for _, source in one.sources) <= 100
        assert one.indices == f"0-{len(members) - 1}"
        assert {jobs[place][:2] for place in members} == {(one.backend, None)}
        assert [file for file, _ in one.sources] == [f"{place}.cq" for place in members]


def test_a_job_without_such_files_can_be_read_by_an_older_c2():
    assert "sources" not in pack(Envelope("circuit", "version 3.0"))
