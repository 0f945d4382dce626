"""What the pages point to is there: pages and their headings, files, folders, modules."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from testbed.layout import CHECKOUT

PAGES = sorted(
    [
        *CHECKOUT.glob("*.md"),
        *(path for folder in ("docs", "deploy", "qslurm") for path in (CHECKOUT / folder).rglob("*.md")),
    ]
)

LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]*(?:/[\w.*-]*)+|[\w-]+\.py")
MODULE = re.compile(r"\bqslurm(?:\.\w+)+")

NOT_OURS = {"finish/", "job_container/tmpfs", "qslurm.python"}
"""What only looks like one of ours: a folder of the spool, a plug-in of Slurm's, a value for scripts/render."""

ENTRY_POINTS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"].keys()
"""Groups of plug-ins have names as modules have them."""

FILES_OF_THAT_NAME = {"conf", "toml", "service", "target"}
"""`qslurm.conf` and the like are files on a host, not modules."""


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """How GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def is_there(name: str, page: Path) -> bool:
    """Whether there is a file, a template or a folder `name`, beside its page, in the repository, or in the package."""
    folders = (page.parent, CHECKOUT, CHECKOUT / "qslurm")
    return any(next(folder.glob(name + end), None) for folder in folders for end in ("", ".j2"))


def is_module(name: str) -> bool:
    """Whether `qslurm.x.y` is a module, or `y` a name in the module `qslurm.x`."""
    path = CHECKOUT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    module, attribute = path.parent.with_suffix(".py"), path.name
    if not module.is_file():
        module = path.parent / "__init__.py"
    return module.is_file() and re.search(rf"\b{attribute}\b", module.read_text()) is not None


def named(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_link_leads_to_a_page_and_a_heading_that_exist(page: Path) -> None:
    dead = []
    for target in LINK.findall(prose(page)):
        if re.match(r"\w+:", target):  # another site
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_a_file_or_module_that_a_page_names_exists(page: Path) -> None:
    first_words = (span.split(maxsplit=1)[0] for span in CODE.findall(prose(page)) if span.strip())
    paths = {word for word in first_words if PATH.fullmatch(word) and not word.startswith(("/", "."))}
    missing = {path for path in paths if not is_there(path, page)}
    modules = {
        name for name in MODULE.findall(page.read_text()) if name.split(".")[1] not in FILES_OF_THAT_NAME
    }
    missing |= {name for name in modules - ENTRY_POINTS if not is_module(name)}
    assert missing - NOT_OURS == set()


def test_the_search_finds_what_is_gone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n## It's 1 of 2\n\n[x](gone.md) `a/gone.py` qslurm.gone.thing\n```\n[y](z.md)\n```\n"
    )
    assert anchors(page) == {"a-page", "its-1-of-2"}
    assert LINK.findall(prose(page)) == ["gone.md"]
    assert not is_there("a/gone.py", page)
    assert is_there("runtimes/interface.py", page)
    assert not is_module("qslurm.gone.thing")
    assert is_module("qslurm.runtimes.interface")
    assert is_module("qslurm.runtimes.interface.Outcome")
