"""Users that the configuration names."""

from __future__ import annotations

import os
import pwd

import pytest

from qslurm.c2.config.user_ids import uids_of
from qslurm.errors import ConfigError


def test_an_unknown_user_is_named_with_its_setting() -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    assert uids_of([me, me], "[tokens] clients") == {os.getuid()}
    with pytest.raises(ConfigError, match=r"\[tokens\] clients: unknown user 'nobody-has-this-name'"):
        uids_of([me, "nobody-has-this-name"], "[tokens] clients")
