"""Loads a plug-in by the name of its entry point, when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def load_plugin(group: str, name: str, built_in: Mapping[str, str]) -> Any:
    """A plug-in of qslurm (`built_in`, by name, as `package.module:attribute`) or of another distribution.

    Built-in ones need no search of the installed distributions, which takes longer than a circuit. None if there is no
    such plug-in; ImportError or AttributeError if it can't be loaded.
    """
    if name in built_in:
        module, _, attribute = built_in[name].partition(":")
        return getattr(import_module(module), attribute)
    from importlib.metadata import entry_points

    for entry in entry_points(group=group, name=name):
        return entry.load()
    return None
