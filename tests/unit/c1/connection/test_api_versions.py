"""C2's API version is remembered, and nothing breaks when it can't be."""

from __future__ import annotations

import json

import pytest

from qslurm.c1.connection.api_versions import VersionCache, cache_file


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cache" / "qslurm" / "versions.json"


def test_what_was_put_is_found_again_by_its_url(file):
    VersionCache(file).put("http://a:1/", "v0.0.38")
    VersionCache(file).put("http://b:1", "v0.0.39")
    assert VersionCache(file).get("http://a:1") == "v0.0.38"
    assert VersionCache(file).get("http://b:1") == "v0.0.39"
    assert VersionCache(file).get("http://c:1") is None


def test_the_file_names_no_url(file):
    VersionCache(file).put("http://secret.example", "v0.0.38")
    assert "secret" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 3}', "\udcff", "[" * 60_000])
def test_a_broken_file_is_written_anew(content, file):
    file.parent.mkdir(parents=True)
    file.write_bytes(content.encode(errors="surrogateescape"))
    cache = VersionCache(file)
    assert cache.get("http://a") is None
    cache.put("http://a", "v0.0.39")
    assert cache.get("http://a") == "v0.0.39"


def test_a_value_of_the_wrong_kind_is_not_believed(file):
    VersionCache(file).put("http://a", "v0.0.39")
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), 7)))
    assert VersionCache(file).get("http://a") is None


def test_a_place_that_can_not_be_written_costs_nothing(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    cache = VersionCache(tmp_path / "taken" / "versions.json")
    cache.put("http://a", "v0.0.39")
    assert cache.get("http://a") is None


def test_the_cache_stands_where_the_desktop_says(tmp_path):
    assert cache_file({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "qslurm" / "versions.json"
    assert cache_file({"XDG_CACHE_HOME": "relative", "HOME": "/h"}).parts[:3] == ("/", "h", ".cache")
