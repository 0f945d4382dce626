"""Calls Quantum Inspire through its official client, one request at a time, with limits of time and size.

The client (`compute_api_client`, `qi2_shared`) knows the paths and the documents. Added here: a missing,
oversized or invalid reply is an error like any other, and no error quotes what was sent.
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
_CHUNK = 256 * 1024
_MAX_TEXT = 500  # characters of the platform's messages that are passed on
_RETRYABLE = {401, 408, 425, 429}
"""Statuses below 500 that do not concern the request: it can be repeated."""


class UnavailableError(QslurmError):
    """The platform gave no valid reply; whether it carried out the request is unknown."""


class RequestRefusedError(QslurmError):
    """The platform refuses a request, with this message."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PlatformLink:
    """The official client, kept open, for one thread."""

    def __init__(self, tokens: Tokens, timeout_s: float) -> None:
        self._client = _make_client(tokens, timeout_s)
        self._runner = asyncio.Runner()

    def call(self, kind: type[T], api: str, method: str, *arguments: Any, **named: Any) -> T:
        """Call a method of one of the client's interfaces (`JobsApi`); its reply must be a `kind`.

        Raises RequestRefusedError if the platform refuses, UnavailableError for any other failure.
        """
        answer = self._runner.run(self._call(api, method, arguments, named))
        if not isinstance(answer, kind):
            raise UnavailableError(f"its reply to {method} is not a {kind.__name__}")
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._runner.run(self._client.close())
        self._runner.close()

    async def _call(self, api: str, method: str, arguments: Any, named: Any) -> Any:
        import compute_api_client
        from aiohttp import ClientError
        from compute_api_client.exceptions import ApiException

        call = getattr(getattr(compute_api_client, api)(self._client), method)
        try:
            return await call(*arguments, **named)
        except ApiException as error:
            raise _refusal(error.status, error.body) from None
        except LoginError as error:
            raise UnavailableError(error.message) from error
        except TimeoutError:
            raise UnavailableError("it did not reply in time") from None
        except (ClientError, OSError) as error:  # their messages have the host and the port, but no token
            raise UnavailableError(
                f"cannot connect: {clean_text(str(error)) or type(error).__name__}"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # not chained: pydantic's message quotes the reply
            raise UnavailableError(f"invalid reply to {method}") from None


def connect(credentials: str, timeout_s: float) -> tuple[PlatformLink, Tokens]:
    """Connect to the platform. ConfigError without the official client, or for unusable credentials."""
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


def clean_text(text: object) -> str:
    """A foreign message as one line without its full stop; "" if it is no text."""
    text = " ".join(text.split()) if isinstance(text, str) else ""
    return "".join(character for character in text[:_MAX_TEXT] if character.isprintable()).rstrip(".")


def _refusal(status: Any, body: Any) -> QslurmError:
    text = _detail(body) or clean_text(body)
    if not isinstance(status, int) or status in _RETRYABLE or not 400 <= status < 500:
        more = f": {text}" if text and status == 401 else ""
        return UnavailableError(f"it answers with HTTP {status}{more}")
    return RequestRefusedError(text or f"HTTP {status} without a reason", status)


def _detail(body: Any) -> str:
    """The messages in `{"detail": …}`: a text, or one for each invalid field."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any]).get("detail")
    except (msgspec.MsgspecError, TypeError, RecursionError):
        return ""
    each = (
        [one.get("msg") if isinstance(one, dict) else one for one in found]
        if isinstance(found, list)
        else [found]
    )
    return "; ".join(filter(None, map(clean_text, each[:5])))


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
        async for chunk in response.response.content.iter_chunked(_CHUNK):
            data += chunk
            if len(data) > _ANSWER_LIMIT:
                raise UnavailableError(f"its reply exceeds {_ANSWER_LIMIT >> 20} MiB")
    finally:
        response.response.close()  # keeps the connection if the reply was complete
    return bytes(data)
