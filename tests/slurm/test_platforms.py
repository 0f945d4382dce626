"""A researcher with several platforms: two centers' accounts on C2, and a platform that does not exist."""

import json
import shutil
import socket
import subprocess
from contextlib import closing, contextmanager

import pytest
from people import Researcher, eventually, operator
from testbed import users
from testbed.layout import write

pytestmark = pytest.mark.slurm

LARGE = "version 3.0\nqubit[64] q\nbit[64] b\nX q[0]\nb[0] = measure q[0]\n"


class UserOfPlatforms(Researcher):
    """A researcher with an own configuration."""

    def configures(self, text):
        """Write the configuration of their commands."""
        write(self.folder / "platforms.toml", text, mode=0o644)

    def types(self, *words, **environment):
        return super().types(*words, QSLURM_CONFIG=str(self.folder / "platforms.toml"), **environment)

    def name_of(self, *words):
        """Submit a job; its id with the platform."""
        done = self.types("submit", *words, "--parsable")
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()


def platform(testbed, section, token):
    ways = f'url = "{testbed.rest_url}"\nresults_url = "{testbed.results_url}"\n'
    return f'[{section}]\n{ways}token_file = "{token}"\n'


@pytest.fixture
def alice(testbed):
    """Her default platform is C2 as center snellius; lumi is C2 as center lumi."""
    operator(testbed, "partition", "enable", "p_qx")
    researcher = UserOfPlatforms(testbed)
    researcher.has_example("bell.cq")
    researcher.writes("large.cq", LARGE)
    token = researcher.folder / "lumi-token"
    write(token, testbed.token("lumi"), mode=0o600, user=researcher.user)
    researcher.both = platform(testbed, "c2", testbed.layout.token) + platform(
        testbed, "platform.lumi", token
    )
    researcher.configures(researcher.both)
    return researcher


@pytest.fixture
def nobody_there():
    """A URL without a server."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: connections are refused
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def user_on_c2(testbed, job_id):
    return testbed.c2(
        ("squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%u")
    ).stdout.strip()


def test_a_job_is_followed_by_its_name_on_the_platform_it_went_to(alice):
    here = alice.name_of("bell.cq", "--backend", "qx")
    there = alice.name_of("bell.cq", "--backend", "qx", "--platform", "lumi")
    assert here.isdigit()
    assert there.startswith("lumi:")
    assert user_on_c2(alice.testbed, there.removeprefix("lumi:")) == "center_lumi"
    for name in (here, there):
        done = alice.types("wait", name)
        assert done.returncode == 0, done.stderr
        assert set(alice.gets("results", name)["counts"]) == {"00", "11"}
        assert "shots" in alice.types("logs", name).stdout
        assert alice.gets("show", name)["id"] == name
    number = there.removeprefix("lumi:")
    done = alice.types("show", number)
    assert done.returncode == 3
    assert there in done.stderr
    assert alice.gets("show", number, "--platform", "lumi")["id"] == there
    done = alice.types("show", number, QSLURM_PLATFORM="lumi")
    assert (done.returncode, f"{number} bell" in done.stdout) == (0, True)


def test_lists_are_of_all_platforms_and_one_that_is_away_spoils_nothing(alice, nobody_there):
    here = alice.name_of("bell.cq", "--backend", "qx", "--hold")
    there = alice.name_of("bell.cq", "--backend", "qx", "--hold", "-M", "lumi")
    try:
        listed = {one["id"]: one["platform"] for one in alice.gets("queue")["jobs"]}
        assert (listed[here], listed[there]) == ("c2", "lumi")
        alice.configures(f'{alice.both}[platform.gone]\nurl = "{nobody_there}"\nresults_url = "{nobody_there}"\n'
                         f'token_file = "{alice.testbed.layout.token}"\n')  # fmt: skip
        done = alice.types("queue")
        assert done.returncode == 5
        assert done.stderr.startswith("qslurm: gone: ")
        rows = [line.split()[:2] for line in done.stdout.splitlines()]
        assert ["JOBID", "PLATFORM"] in rows
        assert [here, "c2"] in rows
        assert [there, "lumi"] in rows
        assert alice.types("queue", "-M", "lumi").returncode == 0
        for command in ("info", "usage", "history"):
            done = alice.types(command, "--json")
            assert done.returncode == 5, command
            assert set(json.loads(done.stdout)["errors"]) == {"gone"}
        assert alice.types("wait", "gone:1", "--timeout", "1").returncode in (5, 8)
    finally:
        done = alice.types("cancel", here, there)
    assert done.returncode == 0, done.stderr


def test_any_backend_is_one_that_is_free_and_fits(alice, nobody_there):
    alice.configures(f'{alice.both}[platform.gone]\nurl = "{nobody_there}"\nresults_url = "{nobody_there}"\n'
                     f'token_file = "{alice.testbed.layout.token}"\n')  # fmt: skip
    done = alice.types("submit", "bell.cq", "--backend", "any", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert "qx of c2" in done.stderr
    assert set(json.loads(done.stdout)["results"]["counts"]) == {"00", "11"}
    done = alice.types("submit", "bell.cq", "--backend", "any", "-M", "lumi", "--parsable")
    assert done.stdout.startswith("lumi:")
    assert alice.types("wait", done.stdout.strip()).returncode == 0
    done = alice.types("submit", "large.cq", "--backend", "any")
    assert done.returncode == 2
    assert "64 qubits" in done.stderr
    assert "qx of lumi" in done.stderr


@pytest.fixture
def agents_folder(testbed):
    """A folder of the agent's user that all users may enter."""
    folder = testbed.layout.run / "agent-lumi"
    folder.mkdir()
    shutil.chown(folder, users.AGENT, users.AGENT)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def agent_of(testbed, name, config):
    """The agent of one platform, as its unit starts it."""
    command = [
        testbed.layout.python,
        "-I",
        "-m",
        "qslurm",
        "agent",
        "serve",
        "--config",
        config,
        "--platform",
        name,
    ]
    process = subprocess.Popen([str(word) for word in command], user=users.AGENT, group=users.AGENT,
                               extra_groups=[], env=testbed.env_c1("root"), cwd="/")  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_each_platform_has_an_agent_of_its_own(alice, agents_folder):
    testbed, layout = alice.testbed, alice.testbed.layout
    token, served = agents_folder / "token", agents_folder / "agent.sock"
    write(token, testbed.token("lumi"), mode=0o600, user=users.AGENT)
    agents = f'[agent]\nsocket = "{layout.agent_socket}"\n[platform.lumi.agent]\nsocket = "{served}"\n'
    config = agents_folder / "config.toml"
    state = f'state = "{agents_folder}"\n'
    write(config, platform(testbed, "platform.lumi", token) + agents + state, mode=0o644)
    alice.configures(agents)
    with agent_of(testbed, "lumi", config):
        eventually(served.exists, "the agent to listen")
        there = alice.name_of("bell.cq", "--backend", "qx", "--platform", "lumi")
        here = alice.name_of("bell.cq", "--backend", "qx")
        number = there.removeprefix("lumi:")
        assert user_on_c2(testbed, number) == "center_lumi"
        for name in (here, there):
            assert alice.types("wait", name).returncode == 0
        listed = {one["id"]: one["platform"] for one in alice.gets("queue", "--all")["jobs"]}
        assert (listed[here], listed[there]) == ("c2", "lumi")
        assert alice.types("show", f"c2:{number}").returncode == 3
        bob = UserOfPlatforms(testbed, "qs_bob")
        bob.configures(agents)
        assert bob.types("show", there).returncode == 3
    done = alice.types("queue", "--all")
    assert done.returncode == 5
    assert "lumi: " in done.stderr
    assert here in done.stdout
