"""Finds a plug-in by the name of its entry point, and imports it then: what nobody asks for is never loaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def load_plugin(group: str, name: str, built_in: Mapping[str, str]) -> Any:
    """The plug-in with this name: one of `built_in` (`package.module:attribute`), or one of another distribution.

    Those of qslurm itself are found without a look at what is installed: that look takes longer than a circuit.
    None if there is none; ImportError or AttributeError if it can't be loaded.
    """
    if name in built_in:
        module, _, attribute = built_in[name].partition(":")
        return getattr(import_module(module), attribute)
    from importlib.metadata import entry_points

    for entry in entry_points(group=group, name=name):
        return entry.load()
    return None
