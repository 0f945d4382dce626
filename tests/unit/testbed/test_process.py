from __future__ import annotations

import os
import subprocess

from testbed.process import await_reaped


def test_waiting_for_init_ends_when_the_last_zombie_is_gone_or_patience_is() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken note
    assert not await_reaped([child.pid], 0.05)
    child.wait()
    assert await_reaped([child.pid], 0.05)
    assert await_reaped([os.getpid()], 0.05), "who lives is no zombie"
