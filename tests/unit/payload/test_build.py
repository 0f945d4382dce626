"""From a job to a payload: the shipped templates, people's own, and what can be wrong with them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload import jinja_render
from qslurm.payload.build import as_json, as_words, render
from qslurm.payload.comment import Comment
from qslurm.payload.envelope import MARKER, Envelope, pack, unpack
from qslurm.payload.handover import SHIPPED, form_of
from qslurm.payload.spec import JobSpec
from qslurm.payload.templates import find_template, list_templates
from qslurm.payload.validate import validate

BELL = "version 3.0\nqubit[2] q\nbit[2] b\nH q[0]\nCNOT q[0], q[1]\nb = measure q\n"
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


def _bash(*arguments, environment, text=b""):
    return subprocess.run(
        ["bash", *arguments], input=text, env=environment, capture_output=True, timeout=20, check=False
    )


def render_as(template, spec, folders):
    return render(msgspec.structs.replace(spec, template=template), folders)


def _circuit(**more):
    return JobSpec(kind="circuit", source=BELL, file=Path("bell.cq"), backend="qx", shots=100, **more)


def test_a_circuit_becomes_a_valid_payload():
    payload = render(_circuit(time_limit="5", account="snellius"))
    validate(payload)
    job = payload["job"]
    assert (job["partition"], job["name"], job["account"]) == ("p_qx", "bell", "snellius")
    assert job["time_limit"] == {"set": True, "infinite": False, "number": 5}
    assert unpack(payload["script"]) == Envelope(kind="circuit", source=BELL, file="bell.cq", shots=100)
    assert payload["script"].startswith("#!/bin/bash\n")
    assert payload["script"].splitlines()[-1].startswith("#QSLURM-DATA ")


def test_a_hybrid_job_carries_its_file():
    payload = render(
        JobSpec(kind="hybrid", source="def execute(qi): ...\n", file=Path("vqe.py"), backend="qx")
    )
    validate(payload)
    assert unpack(payload["script"]).kind == "hybrid"


def test_a_script_goes_as_it_is():
    script = "#!/bin/sh\necho '{{ name }}' \"$HOME\" {% if %}\n"
    payload = render(JobSpec(kind="script", source=script, file=Path("job.sh"), backend="spin2"))
    validate(payload)
    assert payload["script"] == script


def test_the_comment_says_what_the_job_is():
    spec = _circuit(origin="slurm:snellius:12_3:alice")
    said = Comment.parse(render(spec)["job"]["comment"])
    assert said == Comment(spec.key, "circuit", "qx", "slurm:snellius:12_3:alice")


def test_two_jobs_have_two_keys():
    assert _circuit().key != _circuit().key


def test_the_environment_is_clean_but_for_what_was_asked_for(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JWT", "secret")
    job = render(_circuit(environment={"OMP_NUM_THREADS": "2"}))["job"]
    assert job["environment"] == [
        "QSLURM_HANDS_OVER=1",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "OMP_NUM_THREADS=2",
    ]


@pytest.mark.parametrize("name", ["SLURM_JWT", "SLURM_JOB_ID", "SBATCH_PARTITION", "QSLURM_TOKEN_FILE"])
def test_this_machines_slurm_and_tokens_never_go_along(name):
    with pytest.raises(InvalidInputError, match=name):
        render(_circuit(environment={name: "x"}))


# --- what the hand-over does in a real bash


def test_the_hand_over_gives_the_step_the_script_and_reads_no_further(tmp_path):
    script = tmp_path / "slurm_script"
    script.write_text(render(_circuit())["script"])
    step = tmp_path / "a step"
    step.write_text('#!/bin/sh\ntail -n 1 "$1" | cut -c 1-12\nexit 7\n')
    step.chmod(0o755)
    done = _bash(script, environment={"PATH": "/usr/bin:/bin", "QSLURM_STEP": str(step)})
    assert (done.returncode, done.stdout, done.stderr) == (7, b"#QSLURM-DATA\n", b"")


@pytest.mark.parametrize("step", ["", "/nowhere/step", "no-such-step"])
def test_a_node_without_the_step_says_so_and_fails(step, tmp_path):
    script = tmp_path / "slurm_script"
    script.write_text(render(_circuit())["script"])
    environment = {"PATH": "/usr/bin:/bin"} | ({"QSLURM_STEP": step} if step else {})
    done = _bash(script, environment=environment)
    assert done.returncode == 127
    assert b"no job step" in done.stderr
    assert done.stdout == b""


# --- any text survives


@given(texts, texts, texts)
@settings(max_examples=60)
def test_any_text_survives_into_the_payload(name, account, source):
    payload = render(
        JobSpec(kind="circuit", source=source, file=Path("x.cq"), name=name, account=account, backend="qx")
    )
    assert payload["job"]["name"] == (name or "x")
    assert payload["job"].get("account", "") == account
    assert unpack(payload["script"]).source == source


@given(st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=40)
def test_any_text_survives_a_real_bash(values):
    line = f"printf '%s\\0' {as_words(values)} # {as_words(values)}\n"
    done = _bash(environment={}, text=line.encode())
    assert done.stdout.decode().split("\0")[:-1] == values
    assert done.stderr == b""


@given(texts)
@settings(max_examples=40)
def test_no_text_becomes_a_command_even_where_an_author_put_quotes(value):
    hostile = value + "$(echo OWNED >&2)`echo OWNED >&2`';echo OWNED >&2;'\n echo OWNED >&2\n"
    for line in (
        f'true "{as_words(hostile)}"\n',
        f"true '{as_words(hostile)}'\n",
        f"# {as_words(hostile)}\n",
    ):
        done = _bash(environment={}, text=line.encode())
        assert not any(text.strip() == b"OWNED" for text in done.stderr.splitlines())


@given(
    st.recursive(texts | st.integers() | st.booleans() | st.none(), lambda inner: st.lists(inner, max_size=3))
)
def test_any_value_survives_json(value):
    assert json.loads(as_json(value)) == value


envelopes = st.builds(
    Envelope,
    kind=st.sampled_from(["circuit", "hybrid"]),
    source=texts,
    file=texts,
    shots=st.none() | st.integers(1, 10**6),
    seed=st.none() | st.integers(0, 2**31),
    raw_data=st.booleans(),
)


@given(envelopes, texts)
def test_an_envelope_survives_its_script(envelope, script):
    assert unpack(f"#!/bin/bash\n{script}\n{pack(envelope)}\n") == envelope


words = st.text("abcXYZ019_.:/@+,-", max_size=20)


@given(st.builds(Comment, words, words, words, words))
def test_a_comment_says_what_it_was_told(comment):
    assert Comment.parse(comment.format()) == comment


@given(texts)
def test_no_comment_is_too_strange(text):
    assert isinstance(Comment.parse(text), Comment)


# --- templates of one's own


@pytest.fixture
def own(tmp_path):
    def write(payload: str, script: str | None = None, name: str = "mine") -> list[Path]:
        (tmp_path / f"{name}.json.j2").write_text(payload)
        if script is not None:
            (tmp_path / f"{name}.sh.j2").write_text(script)
        return [tmp_path]

    return write


ENVELOPE_LESS = JobSpec(kind="script", source="#!/bin/sh\n", backend="qx", variables={"points": "3"})


def test_a_template_of_ones_own_gets_ones_own_variables(own):
    folders = own('{"job": {"name": {{ points }}}, "script": {{ script }}}', "#!/bin/sh\necho {{ points }}\n")
    payload = render_as("mine", ENVELOPE_LESS, folders)
    assert payload == {"job": {"name": "3"}, "script": "#!/bin/sh\necho 3\n"}


def test_a_quantum_job_keeps_its_data_whatever_the_template_says(own):
    folders = own('{"job": {}, "script": {{ script }}}', "#!/bin/sh\n")
    assert unpack(render_as("mine", _circuit(), folders)["script"]).source == BELL
    folders = own('{"job": {}, "script": {{ script }}}', name="other")
    assert "QSLURM_STEP" in render_as("other", _circuit(), folders)["script"]


def test_a_template_may_build_on_a_shipped_one(own):
    assert render_as("mine", _circuit(), own('{% include "circuit.json.j2" %}'))["job"]["partition"] == "p_qx"


def test_ones_own_template_hides_a_shipped_one(own):
    folders = own('{# Mine. #}{"job": {}, "script": ""}', name="circuit")
    assert render_as(None, _circuit(), folders)["job"] == {}
    assert {template.name: template.summary for template in list_templates(folders)}["circuit"] == "Mine."


def test_the_shipped_templates_are_listed_with_what_they_are_for():
    listed = {template.name: template.summary for template in list_templates()}
    assert set(listed) == {"circuit", "hybrid", "script", "session"}
    assert all(listed.values())


@pytest.mark.parametrize("name", ["circiut", "../circuit", "", "a/b", "nothing_like_it", "x" * 300])
def test_a_template_that_is_not_there_is_named(name):
    with pytest.raises(InvalidInputError) as caught:
        find_template(name, [])
    assert "circuit" in caught.value.hint or "name" in caught.value.hint


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ('{\n"job": {{ nmae }}}', ":2: 'nmae' is undefined"),
        ('{\n"job": {{ name.first.second }}}', "mine.json.j2:2: "),
        ("{\n\n{% if %}", "mine.json.j2:3: invalid template"),
        ('{"job": {{ name | nonsense }}}', "No filter named 'nonsense'"),
        ('{"job": {{ name | tojson }}}', "No filter named 'tojson'"),
        ('{"job": "{{ name }}"}', "mine.json.j2 as rendered:1:11: invalid JSON"),
        ("[1]", "is not a Slurm job payload"),
        ("", "as rendered:1:1"),
        ('{"job": 1, "job": 2}', "duplicate field 'job'"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself endlessly"),
        ('{% include "mine.json.j2" %}', "calls itself endlessly"),
        ('{% include "nothing.j2" %}', "included template nothing.j2 not found"),
        ("{{ name.__class__.__mro__ }}", "mine.json.j2:1: "),
        ("{{ 1 / 0 }}", "mine.json.j2:1: division by zero"),
        ("{{ 'x' * 10000000000 }}", "mine.json.j2:1: the template exceeds a limit"),
        ("{{ [0] * 10000000000 }}", "exceeds a limit"),
        ("{{ 9 ** 9999999999 }}", "exceeds a limit"),
        ("{{ '%9999999999d' % 1 }}", "exceeds a limit"),
        ("{{ range(10000000000) | list }}", "mine.json.j2:1: "),
        ("{{ name | attr('__class__') }}", "mine.json.j2:1: "),
    ],
)
def test_what_is_wrong_with_a_template_is_said_with_file_and_line(template, said, own):
    with pytest.raises(InvalidInputError) as caught:
        render_as("mine", ENVELOPE_LESS, own(template))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'xxxxxxxxxxxxxxxx' }}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_without_end_is_ended(template, own):
    (folder,) = own(template)
    with pytest.raises(InvalidInputError, match="exceeds a limit"):
        jinja_render.render_file(folder / "mine.json.j2", {}, str, max_seconds=0.2)


def test_a_template_may_not_change_what_it_was_given(own):
    with pytest.raises(InvalidInputError):
        render_as("mine", ENVELOPE_LESS, own("{{ environment.append('A=1') }}"))


def test_a_variable_can_not_take_a_name_of_qslurms():
    with pytest.raises(InvalidInputError, match="script"):
        render(JobSpec(kind="script", source="#!", variables={"script": "x"}))


@pytest.mark.parametrize("value", [{"a": 1}, None, "a\0b"])
def test_what_no_shell_can_carry_is_refused_with_its_line(value, own):
    folders = own('{"script": {{ script }}}', "#!/bin/sh\necho {{ points }}\n")
    with pytest.raises(InvalidInputError, match=r"mine\.sh\.j2:2: "):
        render_as("mine", JobSpec(kind="script", source="#!", variables={"points": value}), folders)


def test_a_folder_that_is_not_there_is_no_error(tmp_path):
    assert render_as(None, _circuit(), [tmp_path / "missing"])["job"]


@pytest.mark.parametrize(
    ("name", "hint"), [("pionts", "Did you mean points?"), ("zzz", "Its variables: depth, points.")]
)
def test_a_variable_that_the_template_does_not_know_is_refused_with_the_nearest(own, name, hint):
    folders = own(
        '{% if depth is defined %}{{ depth }}{% endif %}{"job": {}, "script": {{ script }}}',
        "#!/bin/sh\necho {{ points }}\n",
    )
    with pytest.raises(InvalidInputError) as caught:
        render_as("mine", JobSpec(kind="script", source="#!", variables={"points": "1", name: "2"}), folders)
    assert (caught.value.message, caught.value.hint) == (f"Template mine has no variable {name!r}.", hint)


def test_what_a_template_includes_knows_its_names_too(own):
    folders = own('{% include "part.j2" %}')
    (folders[0] / "part.j2").write_text('{"job": {"name": {{ points }}}, "script": ""}')
    assert render_as("mine", ENVELOPE_LESS, folders)["job"] == {"name": "3"}
    with pytest.raises(InvalidInputError, match="script has no variable 'points'"):
        render(ENVELOPE_LESS)


def test_what_a_template_chooses_while_it_runs_may_know_any_name(own):
    folders = own("{% include which %}")
    (folders[0] / "part.j2").write_text('{"job": {}, "script": ""}')
    spec = JobSpec(kind="script", source="#!/bin/sh\n", variables={"which": "part.j2", "more": "1"})
    assert render_as("mine", spec, folders)["job"] == {}


@pytest.mark.parametrize(
    "template", ["{% nonsense %}", "{{ unknown }}", "{{ 1 / 0 }}", "{{ script.x() }}", "{{"]
)
def test_what_is_wrong_with_a_template_is_one_sentence(template, own):
    with pytest.raises(InvalidInputError) as caught:
        render_as("mine", JobSpec(kind="script", source="#!/bin/sh\n"), own(template))
    assert caught.value.message.endswith(".")
    assert not caught.value.message.endswith("..")


@pytest.mark.parametrize("kind", ["circuit", "hybrid", "session"])
def test_what_is_made_begins_as_c2_knows_it(kind: str) -> None:
    """Who changes a template's text adds it to SHIPPED and to job_submit.lua: C2 goes on to take older ones."""
    script = render(JobSpec(kind=kind, source=BELL, backend="qx"))["script"]
    assert script[: script.rfind("\n" + MARKER) + 1] == SHIPPED[-1]
    assert form_of(script, "/usr/lib/qslurm/qslurm-step") == "handover"
