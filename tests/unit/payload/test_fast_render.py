"""Templates that need no Jinja give what Jinja gives, to the letter; all others are left to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qslurm.errors import InvalidInputError
from qslurm.payload import jinja_render
from qslurm.payload.build import as_json, as_words
from qslurm.payload.fast_render import NeedsJinjaError, names_in_plain, render_plain
from qslurm.payload.templates import list_templates, shipped_folder

SAID = {
    "name": "bell",
    "shots": 100,
    "account": "",
    "hold": False,
    "array": None,
    "script": "#!/bin/sh\n{{ name }}\n",
}
PARTS = [
    *[
        "{{ name }}",
        "{{shots}}",
        "{{ array }}",
        "{{ script }}",
        '{% include "part" %}',
        "{# a word #}",
        "{# a word -#}",
    ],
    *["\n", "\n\n", "  ", "\t", " \n", "x", "}", "%}", "#}", "-", '"', "\r\n", "\N{NO-BREAK SPACE}", "\x0c"],
]
IFS = ["{% if hold %}", "{% if array is not none %}", "{% if account %}", "{% if shots %}", "{%  if name  %}"]
OTHERS = [
    *[
        "{{ nobody }}",
        "{{ name|upper }}",
        "{{ name",
        "{{ none }}",
        "{{ range }}",
        "{%- endif %}",
        "{% else %}",
    ],
    *[
        "{% for x in name %}",
        '{% include "gone" %}',
        "{% raw %}",
        "{% if not hold %}",
        "{% if name%}",
        "{%if hold%}",
    ],
    *[
        "{#- a word #}",
        "{# { % #}",
        "{#+ x #}",
        "{# x +#}",
        "{",
        "{% endif +%}",
        "{%+ if hold %}",
        "{{- name }}",
    ],
]


def _joined(parts):
    return parts.map("".join)


plain = st.recursive(
    st.sampled_from(PARTS),
    lambda inner: _joined(
        st.tuples(st.sampled_from(IFS), _joined(st.lists(inner, max_size=4)), st.just("{% endif %}"))
    ),
    max_leaves=6,
)
templates = _joined(st.lists(plain, max_size=6)) | _joined(
    st.lists(plain | st.sampled_from(OTHERS), max_size=6)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("templates")
    (made / "part").write_text("  part of {{ name }}\n{% if shots %}\n yes\n  {% endif %}")
    return made


def _by_jinja(path, names, escape):
    try:
        return jinja_render.render_file(path, names, escape)
    except InvalidInputError:
        return None


@settings(max_examples=50)
@given(source=templates)
def test_whatever_is_rendered_here_is_what_jinja_renders(folder, source):
    path = folder / "template.json.j2"
    path.write_text(source, newline="")
    for escape in (as_json, as_words):
        names = {**SAID, "array": None if escape is as_json else "0-3"}
        try:
            text = render_plain(path, (folder,), names, escape)
        except (NeedsJinjaError, InvalidInputError):
            continue
        assert text == _by_jinja(path, names, escape)
        assert names_in_plain(path, (folder,)) == jinja_render.names_in(path)


@pytest.mark.parametrize("given_by_user", [True, False])
def test_the_shipped_templates_need_no_jinja(given_by_user):
    always = dict.fromkeys(("name", "partition", "comment", "workdir", "script"), "it's\n") | {
        "environment": ["A=b"]
    }
    options = (
        "qos",
        "reservation",
        "dependency",
        "array",
        "account",
        "begin_time",
        "hold",
        "time_limit_minutes",
    )
    names = always | dict.fromkeys(options, 5 if given_by_user else None)
    for template in list_templates():
        for path, escape in ((template.payload, as_json), (template.script, as_words)):
            if path is not None:
                assert render_plain(path, (shipped_folder(),), names, escape) == _by_jinja(
                    path, names, escape
                )


def test_a_template_that_includes_itself_is_left_to_jinja(folder):
    path = folder / "round.json.j2"
    path.write_text('{% include "round.json.j2" %}')
    with pytest.raises(NeedsJinjaError):
        render_plain(path, (folder,), {}, as_json)
