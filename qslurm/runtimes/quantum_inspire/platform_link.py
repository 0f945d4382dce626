"""Asks Quantum Inspire through its official client, one question at a time, with limits of time and size.

The client (`compute_api_client`, `qi2_shared`) knows the paths and the documents; what it lacks is added here: an
answer that does not come, is far too long, or makes no sense is an error like any other, and no error quotes
what was sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from qslurm.errors import ConfigError, QslurmError
from qslurm.runtimes.quantum_inspire.platform_tokens import LoginError, Tokens

if TYPE_CHECKING:
    from compute_api_client import ApiClient

T = TypeVar("T")

_ANSWER_LIMIT = 32 * 1024 * 1024  # bytes; raw data of a million shots of 20 bits is 25 MiB
_PIECE = 256 * 1024
_WORDS = 500  # characters of the platform's own words that are passed on
_NOT_ABOUT_THE_REQUEST = {401, 408, 425, 429}
"""Statuses below 500 that say nothing of what was asked: it can be asked again."""


class AwayError(QslurmError):
    """The platform gave no answer that makes sense; whether it did what it was asked to is not known."""


class RequestRefusedError(QslurmError):
    """The platform refuses what it was asked, with these words."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PlatformLink:
    """The official client, kept open for a process that asks with one thread."""

    def __init__(self, tokens: Tokens, timeout_s: float) -> None:
        self._client = _make_client(tokens, timeout_s)
        self._runner = asyncio.Runner()

    def ask(self, kind: type[T], api: str, method: str, *arguments: Any, **named: Any) -> T:
        """Call a method of one of the client's interfaces (`JobsApi`), and give its answer, which is a `kind`.

        RequestRefusedError for what the platform refuses, AwayError for everything else that is no answer.
        """
        answer = self._runner.run(self._ask(api, method, arguments, named))
        if not isinstance(answer, kind):
            raise AwayError(f"its reply to {method} is not a {kind.__name__}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._client.close())
        self._runner.close()

    async def _ask(self, api: str, method: str, arguments: Any, named: Any) -> Any:
        import compute_api_client
        from aiohttp import ClientError
        from compute_api_client.exceptions import ApiException

        ask = getattr(getattr(compute_api_client, api)(self._client), method)
        try:
            return await ask(*arguments, **named)
        except ApiException as error:
            raise _refusal(error.status, error.body) from None
        except LoginError as error:
            raise AwayError(error.message) from error
        except TimeoutError:
            raise AwayError("it did not reply in time") from None
        except (ClientError, OSError) as error:  # their texts name the host and the port, and no token
            raise AwayError(f"cannot connect: {words(str(error)) or type(error).__name__}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Not chained: what pydantic says quotes the answer.
            raise AwayError(f"invalid reply to {method}") from None


def connect(credentials: str, timeout_s: float) -> tuple[PlatformLink, Tokens]:
    """The way to the platform. ConfigError without the official client, or for credentials that can't be used."""
    try:
        import aiohttp  # noqa: F401
        import compute_api_client  # noqa: F401
        import qi2_shared.settings  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"Quantum Inspire's official client is not installed ({error}).",
            hint="pip install 'qslurm[quantum-inspire]' where the dispatcher runs.",
        ) from error
    tokens = Tokens(credentials, timeout_s)
    return PlatformLink(tokens, timeout_s), tokens


def words(said: object) -> str:
    """What somebody else wrote, fit for one line of ours and without its full stop; "" if it is no text."""
    text = " ".join(said.split()) if isinstance(said, str) else ""
    return "".join(character for character in text[:_WORDS] if character.isprintable()).rstrip(".")


def _refusal(status: Any, body: Any) -> QslurmError:
    said = _detail(body) or words(body)
    if not isinstance(status, int) or status in _NOT_ABOUT_THE_REQUEST or not 400 <= status < 500:
        more = f": {said}" if said and status == 401 else ""
        return AwayError(f"it answers with HTTP {status}{more}")
    return RequestRefusedError(said or f"HTTP {status} without a reason", status)


def _detail(body: Any) -> str:
    """The words in `{"detail": …}`: a text, or one for each field that is wrong."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any]).get("detail")
    except (msgspec.MsgspecError, TypeError, RecursionError):
        return ""
    each = (
        [one.get("msg") if isinstance(one, dict) else one for one in found]
        if isinstance(found, list)
        else [found]
    )
    return "; ".join(filter(None, map(words, each[:5])))


def _make_client(tokens: Tokens, timeout_s: float) -> ApiClient:
    """The official client, with limits that it does not have itself."""
    from aiohttp import ClientTimeout
    from compute_api_client import ApiClient
    from compute_api_client.rest import RESTClientObject, RESTResponse
    from qi2_shared.client import Configuration

    class Limited(RESTClientObject):  # type: ignore[misc]
        async def request(
            self,
            method: str,
            url: str,
            headers: dict[str, str] | None = None,
            body: Any = None,
            post_params: Any = None,
            _request_timeout: object = None,
        ) -> RESTResponse:
            limit = ClientTimeout(total=timeout_s)
            response = await super().request(method, url, headers, body, post_params, limit)
            response.data = await _read(response)
            return response

    configuration = Configuration(host=tokens.host, oauth_session=tokens)
    client = ApiClient(configuration)
    client.rest_client = Limited(configuration)
    return client


async def _read(response: Any) -> bytes:
    data = bytearray()
    try:
        async for piece in response.response.content.iter_chunked(_PIECE):
            data += piece
            if len(data) > _ANSWER_LIMIT:
                raise AwayError(f"its reply exceeds {_ANSWER_LIMIT >> 20} MiB")
    finally:
        response.response.close()  # gives the connection back if the answer was complete
    return bytes(data)
