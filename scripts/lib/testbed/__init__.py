"""Two real Slurm clusters on this host: C1, a center ("snellius"), and C2, beside a quantum platform ("qi").

    with Testbed("mine") as testbed:          # up at the start, down at the end
        testbed.c1(["sbatch", "--wrap", "hostname"], user="qs_alice")
        testbed.kill("slurmctld-c2")
        testbed.up()                          # starts only what is missing

Everything lives in <checkout>/.state/testbed/<name>/ and is rendered from the files in deploy/.
"""

from testbed.errors import TestbedError
from testbed.instance import Testbed

__all__ = ["Testbed", "TestbedError"]
