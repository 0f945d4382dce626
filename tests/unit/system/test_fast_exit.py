import subprocess
import sys

from testbed.layout import CHECKOUT

PROGRAM = """
import atexit, sys, threading
sys.path.insert(0, sys.argv[1])
from qslurm.system.fast_exit import leave
begun = threading.Event()
def work():
    begun.wait()
    print("a thread that went on")
atexit.register(print, "what was registered")
threading.Thread(target=work).start()
threading.Timer(0.01, begun.set).start()
print("the last words", end="")
leave(3)
"""


def test_a_process_that_leaves_loses_no_thread_no_exit_function_no_output_and_not_its_code():
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(CHECKOUT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "the last wordsa thread that went on\nwhat was registered\n"
    assert (done.returncode, done.stderr) == (3, "")
