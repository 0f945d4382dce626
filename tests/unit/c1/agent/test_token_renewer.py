"""The agent keeps its token fresh, step by step, with a clock that the test moves."""

import json
import logging
import stat
from base64 import urlsafe_b64encode

import pytest

from qslurm.c1.agent import token_renewer
from qslurm.c1.agent.token_renewer import TokenRenewer
from qslurm.c1.connection.center_token import C2Clock
from qslurm.errors import PermissionDeniedError, TokenError, UnreachableError
from qslurm.tokens.secret import HeldToken, Secret
from qslurm.tokens.token_file import read_token

NOW = 1_800_000_000
LIFE = 1000


def token(issued, life=LIFE, user="center_a"):
    parts = ({"alg": "RS256", "kid": "a"}, {"sun": user, "iat": int(issued), "exp": int(issued) + life})
    return (
        ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".sig"
    )


class C2:
    """A C2 that renews, with a clock of its own; `refuses` and `slurm_refuses` are errors it answers with."""

    def __init__(self):
        self.time = float(NOW)
        self.until = NOW + 400 * 86400
        self.refuses = self.slurm_refuses = None
        self.given, self.looks, self.tried = [], 0, []

    def renewal(self, *, only_look):
        self.looks += only_look
        if self.refuses:
            raise self.refuses
        if only_look:
            return {"renewable_until": self.until}
        self.given.append(token(self.time))
        return {"token": self.given[-1], "renewable_until": self.until}

    def clock(self):
        return self.time

    def accepts(self, secret):
        self.tried.append(secret.reveal())
        if self.slurm_refuses:
            raise self.slurm_refuses


@pytest.fixture
def c2():
    return C2()


@pytest.fixture
def agent(tmp_path, c2):
    """An agent whose own clock is 10 minutes ahead of C2's."""
    path = tmp_path / "token"
    path.write_text(token(NOW))
    path.chmod(0o640)
    return Agent(path, c2)


class Agent:
    def __init__(self, path, c2, off=600):
        self.path, self.c2 = path, c2
        self.held = HeldToken(path.read_text().strip())
        clock = C2Clock(lambda: c2.time + off, lambda: c2.time - NOW)
        self.renewer = TokenRenewer(path, self.held, lambda: c2, c2.accepts, clock=clock, chance=lambda: 0.0)

    def at(self, seconds):
        """What it does so many seconds after its token was issued; how long it then waits."""
        self.c2.time = NOW + seconds
        return self.renewer.step()

    @property
    def trouble(self):
        return self.renewer.state().trouble


def test_it_is_renewed_at_four_fifths_of_its_life_by_c2s_clock(agent, c2):
    assert agent.at(10) <= token_renewer.LOOK_S
    agent.at(790)
    assert c2.given == []
    agent.at(802)
    assert [agent.held.reveal()] == c2.given == c2.tried
    assert read_token(agent.path) == agent.held
    assert stat.S_IMODE(agent.path.stat().st_mode) == 0o640
    state = agent.renewer.state()
    assert (state.expires, state.trouble, state.renewable_until) == (NOW + 802 + LIFE, "", c2.until)
    assert abs(state.clock_off_s - 600) <= 1
    agent.at(1500)
    assert len(c2.given) == 1
    agent.at(1610)
    assert len(c2.given) == 2


@pytest.mark.parametrize("off", [-600, 600])
def test_a_machine_with_a_wrong_clock_neither_comes_too_late_nor_gives_up_too_soon(agent, c2, off):
    other = Agent(agent.path, c2, off=off)
    other.at(1)
    other.at(790)
    assert c2.given == []
    other.at(802)
    assert len(c2.given) == 1


def test_whoever_holds_the_token_shows_the_new_one(agent, c2):
    shown = agent.held
    agent.at(810)
    assert shown.reveal() == c2.given[0]


def test_it_asks_long_before_whether_it_could(agent, c2, caplog):
    c2.refuses = PermissionDeniedError(
        "C2's operators Renewal is disabled for the tokens of a.", hint="Ask them."
    )
    agent.at(1)
    assert "Renewal is disabled" in agent.trouble
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert token(NOW) not in caplog.text
    c2.refuses = None
    agent.at(100)
    assert agent.trouble == ""


def test_renewals_that_will_end_are_said_a_tokens_life_before(agent, c2, caplog):
    c2.until = NOW + LIFE + 500
    agent.at(1)
    assert "stop renewing the token" in caplog.text
    assert agent.trouble == ""


def test_a_refusal_is_tried_again_with_longer_and_longer_pauses(agent, c2, caplog):
    c2.refuses = TokenError("Revoked.")
    tries = []
    moment = 800.0
    while moment < LIFE:
        before = agent.renewer._try_at
        moment += agent.at(moment)
        if agent.renewer._try_at != before:
            tries.append(moment)
    assert 4 <= len(tries) <= 7  # after 5, 10, 20, 40, 80 s
    assert agent.trouble == "Revoked."
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert 2 <= len(said) <= 9  # when it is new, and each time half of what is left is over
    agent.at(LIFE + 1)
    assert "expired" in agent.trouble
    assert agent.held.reveal() == token(NOW)


def test_an_admin_puts_another_one_there_and_it_is_taken_up(agent, c2):
    c2.refuses = TokenError("Revoked.")
    agent.at(810)
    c2.refuses = None
    c2.time = NOW + 900
    agent.path.write_text(token(NOW + 900))
    agent.at(901)
    assert agent.held.reveal() == token(NOW + 900)
    assert agent.trouble == ""
    assert c2.given == []


def test_an_agent_that_begins_with_an_expired_token_says_so_and_takes_up_the_next(agent, c2, caplog):
    for seconds in (LIFE + 1, LIFE + 11, LIFE + 500):
        agent.at(seconds)
    assert "expired" in agent.trouble
    assert len(caplog.records) == 1
    assert c2.given == []
    agent.path.write_text(token(c2.time))
    agent.at(LIFE + 510)
    assert agent.trouble == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No token"),
        ("x" * 20_000, "Invalid token"),
        (token(NOW - 5 * LIFE), "expired"),
        (token(NOW + 5, user="center_b"), "now for user center_b"),
    ],
)
def test_what_is_put_there_and_is_no_good_is_not_taken_up(agent, text, said):
    agent.at(1)
    agent.path.write_text(text)
    agent.at(5)
    assert said in agent.trouble
    assert agent.held.reveal() == token(NOW)


def test_a_new_token_that_c2s_slurm_refuses_replaces_nothing(agent, c2):
    c2.slurm_refuses = TokenError("C2 refused the token.")
    agent.at(810)
    assert agent.held.reveal() == agent.path.read_text() == token(NOW)
    assert agent.trouble == "C2 refused the token."
    c2.slurm_refuses = None
    agent.at(830)
    assert agent.held.reveal() == c2.given[-1]


def test_a_slurm_that_is_away_is_waited_for_but_not_until_it_is_too_late(agent, c2):
    c2.slurm_refuses = UnreachableError("Away.")
    agent.at(810)
    agent.at(830)
    assert agent.held.reveal() == token(NOW)
    assert len(c2.given) == 1  # kept, and asked about again
    agent.at(901)
    assert agent.held.reveal() == agent.path.read_text().strip() == c2.given[0]


def test_a_service_that_is_away_is_no_trouble_before_the_token_is_due(agent, c2):
    c2.refuses = UnreachableError("C2's renewal service does not answer.")
    agent.at(1)
    assert agent.trouble == ""
    agent.at(810)
    assert "does not answer" in agent.trouble
    c2.refuses = None
    agent.at(900)
    assert agent.trouble == ""
    assert agent.held.reveal() == c2.given[0]


def test_a_token_that_can_not_be_written_is_used_all_the_same_and_written_later(agent, c2, monkeypatch):
    def full(*_args, **_options):
        raise TokenError("The token can't be replaced: No space left on device.")

    monkeypatch.setattr(token_renewer, "replace_token", full)
    agent.at(810)
    assert agent.held.reveal() == c2.given[0]
    assert "No space left" in agent.trouble
    monkeypatch.undo()
    agent.at(840)
    assert agent.path.read_text().strip() == c2.given[0]
    assert agent.trouble == ""


def test_a_file_that_it_may_not_replace_is_said_at_once(agent, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    agent.at(1)
    assert "is not writable" in agent.trouble
    assert agent.c2.looks == 1


def test_no_token_is_shown_by_who_holds_it():
    held = HeldToken("a.b.c")
    held.replace(Secret("d.e.f"))
    assert "d.e.f" not in f"{held} {held!r}"
