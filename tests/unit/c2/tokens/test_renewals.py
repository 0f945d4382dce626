"""Who gets a fresh token for an old one, and who doesn't."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import msgspec
import pytest

from qslurm.c2.config.tokens_section import TokensConfig
from qslurm.c2.tokens.issue import sign
from qslurm.c2.tokens.keys import KeyHolder, remove_key
from qslurm.c2.tokens.renewal_service import RenewalService, serve
from qslurm.c2.tokens.renewal_terms import RenewalTerms, read_terms, until, write_terms
from qslurm.c2.tokens.renewals import BURST, EVERY_S, Allowance, Renewals
from qslurm.errors import (
    ConfigError,
    InvalidInputError,
    PermissionDeniedError,
    QslurmError,
    TokenError,
    TooOftenError,
    UnreachableError,
)
from qslurm.protocol.token_renewal import MESSAGE_LIMIT, request_renewal
from qslurm.tokens.secret import Secret
from qslurm.wire.frames import NO_REQUEST, frame
from tests.unit.c2.tokens.serving import serving

NOW = 1_800_000_000
DAY = 86400


class Office:
    """C2's renewals at NOW, and what its operator can do."""

    def __init__(self, config: TokensConfig, keys: KeyHolder) -> None:
        self.config, self.keys = config, keys
        self.renewals = Renewals(
            config, user_prefix="center_", masters=["slurm"], clock=lambda: NOW, keys=keys,
            allowance=Allowance(lambda: 0.0),
        )  # fmt: skip
        self.allows("snellius")
        self.allows("lumi")

    def allows(self, center: str, for_s: int = 366 * DAY, lifetime: str = "") -> None:
        write_terms(self.config, center, RenewalTerms(NOW + for_s if for_s else 0, lifetime))

    def token(self, center: str = "snellius", *, left: int = DAY, by: str = "", user: str = "") -> str:
        key, name = self.keys.key(by or center), user or f"center_{center}"
        return sign(key, center, name, NOW - DAY, NOW + left).token.reveal()


@pytest.fixture(scope="module")
def _keys(_made_keys: TokensConfig) -> KeyHolder:
    """Keys that are read once: that takes longer than all these tests."""
    return KeyHolder(_made_keys)


@pytest.fixture
def office(key_pairs: Callable[..., TokensConfig], _keys: KeyHolder) -> Office:
    return Office(key_pairs("snellius", "lumi"), _keys)


def test_a_fresh_token_is_for_the_same_center_by_the_same_key_and_lives_anew(office: Office) -> None:
    given = office.renewals.renew(office.token())
    assert given.token is not None
    claims = given.claims
    assert (claims.user, claims.key_id, claims.issued, claims.expires) == (
        "center_snellius",
        "snellius",
        NOW,
        NOW + 30 * DAY,
    )
    jwt.decode(
        given.token.reveal(),
        office.keys.key("snellius").public_key(),
        algorithms=["RS256"],
        options={"verify_exp": False, "verify_iat": False},
    )


def test_the_operator_says_for_how_long_and_until_when(office: Office) -> None:
    office.allows("snellius", 5 * DAY, "7d")
    assert office.renewals.renew(office.token()).claims.expires == NOW + 5 * DAY
    office.allows("snellius", 50 * DAY, "7d")
    given = office.renewals.check(office.token())
    assert (given.token, given.until) == (None, NOW + 50 * DAY)
    assert office.renewals.renew(office.token()).claims.expires == NOW + 7 * DAY
    office.allows("snellius", 5 * DAY)
    with pytest.raises(PermissionDeniedError, match="no later than this one"):
        office.renewals.renew(office.token(left=5 * DAY))


@pytest.mark.parametrize("for_s", [0, -DAY, 30])
def test_nothing_is_renewed_that_the_operator_does_not_allow_any_more(office: Office, for_s: int) -> None:
    office.allows("snellius", for_s)
    for asked in (office.renewals.check, office.renewals.renew):
        with pytest.raises(PermissionDeniedError, match="Renewal is disabled for the tokens of snellius"):
            asked(office.token())
    assert office.renewals.renew(office.token("lumi")).token is not None


def test_a_center_that_nobody_has_said_anything_of_may_not_renew(office: Office) -> None:
    (Path(office.config.keys) / "snellius.renewal").unlink()
    with pytest.raises(PermissionDeniedError, match="Renewal is disabled"):
        office.renewals.renew(office.token())


def test_damaged_terms_allow_nothing_and_say_what_to_do(office: Office) -> None:
    (Path(office.config.keys) / "snellius.renewal").write_text('{"until": "soon"}')
    with pytest.raises(QslurmError, match=r"Cannot read.*qslurm token renewal") as error:
        office.renewals.renew(office.token())
    assert not isinstance(error.value, TokenError | PermissionDeniedError)


FORGED = {
    "another center's key": lambda office: office.token("snellius", by="lumi"),
    "a key of its own for another's user": lambda office: office.token("lumi", user="center_snellius"),
    "root by a good key": lambda office: office.token("snellius", user="root"),
    "a center without a key": lambda office: office.token("tulip", by="lumi"),
    "a file outside": lambda office: office.token("../x", by="lumi", user="center_../x"),
    "nobody's signature": lambda office: (
        jwt.encode(
            {"sun": "center_snellius", "exp": NOW + 60}, "", algorithm="none", headers={"kid": "snellius"}
        )
        + "e30"
    ),
    "a shared key": lambda office: jwt.encode(
        {"sun": "center_snellius", "exp": NOW + 60}, "k" * 64, algorithm="HS256", headers={"kid": "snellius"}
    ),
    "expired": lambda office: office.token(left=-1),
    "cut": lambda office: office.token()[:-20],
    "no token": lambda _: "gibberish",
}


@pytest.mark.parametrize("what", FORGED)
def test_what_is_no_good_token_of_a_center_is_not_renewed(office: Office, what: str) -> None:
    token = FORGED[what](office)
    for asked in (office.renewals.check, office.renewals.renew):
        with pytest.raises(TokenError) as error:
            asked(token)
        assert token not in str(error.value)


def test_a_revoked_center_renews_nothing_from_the_next_moment_on(
    key_pairs: Callable[..., TokensConfig],
) -> None:
    config = key_pairs("snellius", "lumi")
    office = Office(config, KeyHolder(config))
    token = office.token()
    assert office.renewals.renew(token).token is not None
    remove_key(config, "snellius")
    with pytest.raises(TokenError, match="not issued to your center"):
        office.renewals.renew(token)
    assert read_terms(config, "snellius") == RenewalTerms()


def test_a_center_that_asks_too_often_waits_and_no_other_does(office: Office) -> None:
    for _ in range(BURST):
        office.renewals.renew(office.token())
    with pytest.raises(TooOftenError):
        office.renewals.renew(office.token())
    assert office.renewals.renew(office.token("lumi")).token is not None
    office.renewals.check(office.token())  # costs nothing


def test_the_bucket_fills_again() -> None:
    moment = [0.0]
    allowance = Allowance(lambda: moment[0])
    for _ in range(3 * BURST):
        allowance.take("snellius")
        moment[0] += EVERY_S
    for _ in range(BURST):
        allowance.take("snellius")
    with pytest.raises(TooOftenError):
        allowance.take("snellius")


def test_times_as_operators_say_them() -> None:
    assert (until("90d", 100.5), until("never", 100.5)) == (100 + 90 * DAY, 0)


# --- by the socket


@pytest.fixture
def served(office: Office, home: Path) -> Iterator[str]:
    """The service at a socket, for whoever runs this test."""
    path = str(home / "tokens.sock")
    service = RenewalService(msgspec.structs.replace(office.config, clients=()), office.renewals)
    with serving(service, path):
        yield path


def test_the_job_manager_asks_by_a_socket_and_errors_arrive_as_what_they_are(
    served: str, office: Office
) -> None:
    given = request_renewal(served, Secret(office.token()))
    assert (given.expires, given.until) == (NOW + 30 * DAY, NOW + 366 * DAY)
    looked = request_renewal(served, Secret(office.token()), dry_run=True)
    assert (looked.token, looked.expires) == ("", NOW + DAY)
    with pytest.raises(TokenError):
        request_renewal(served, Secret(office.token(by="lumi")))
    office.allows("snellius", 0)
    with pytest.raises(PermissionDeniedError):
        request_renewal(served, Secret(office.token()))
    office.allows("snellius")
    with pytest.raises(TooOftenError):
        for _ in range(BURST + 1):
            request_renewal(served, Secret(office.token()))


@pytest.mark.parametrize(
    "bytes_", [b"", b"\0\0", (MESSAGE_LIMIT + 1).to_bytes(4, "big"), b"\0\0\0\3abc", b"\0\0\0\1\x80"]
)
def test_who_says_nonsense_is_hung_up_on_and_the_next_is_answered(
    served: str, office: Office, bytes_: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(served)
        connection.sendall(bytes_)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert request_renewal(served, Secret(office.token())).token


def test_neither_log_nor_error_has_a_token(
    served: str, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    good, bad = office.token(), office.token(by="lumi")
    given = request_renewal(served, Secret(good))
    with pytest.raises(TokenError):
        request_renewal(served, Secret(bad))
    said = "".join(str(record.__dict__) for record in caplog.records)
    assert "renewed" in said
    assert "snellius" in said
    for token in (good, bad, given.token):
        assert token not in said
        assert token.split(".")[2] not in said


def test_a_service_that_is_away_or_speaks_nonsense_is_unreachable(home: Path) -> None:
    path = str(home / "none.sock")
    with pytest.raises(UnreachableError, match="renewal service does not answer"):
        request_renewal(path, Secret("a.b.c"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)

        def garbage() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(frame(NO_REQUEST, b"\xc1"))

        thread = threading.Thread(target=garbage)
        thread.start()
        with pytest.raises(UnreachableError):
            request_renewal(path, Secret("a.b.c"))
        thread.join()


def test_a_client_that_is_no_user_here_is_a_mistake_in_the_configuration(office: Office) -> None:
    config = msgspec.structs.replace(office.config, clients=("qs-nobody-of-this-name",))
    with pytest.raises(ConfigError, match="unknown user 'qs-nobody"):
        RenewalService(config, office.renewals)


@pytest.mark.parametrize("changes", [{"renewed_lifetime": "soon"}, {"max_lifetime": ""}, {"socket": ""}])
def test_a_configuration_that_says_nonsense_is_refused_before_anybody_asks(
    office: Office, changes: dict[str, str]
) -> None:
    config = msgspec.structs.replace(office.config, **{"socket": "/nonexistent/x", "clients": ()} | changes)
    with pytest.raises(InvalidInputError):
        serve(config, user_prefix="center_", masters=[])
