"""MUNGE credentials, by libmunge."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, TypeVar

from qslurm.errors import PermissionDeniedError, UnreachableError

_LIBRARY = "libmunge.so.2"
_TTL, _ENCODE_TIME, _DECODE_TIME, _SOCKET = 4, 6, 7, 8  # munge_opt of munge.h
_SUCCESS = 0
_UNAVAILABLE = {1, 5, 6, 7}  # munge_err: SNAFU, NO_MEMORY, SOCKET, TIMEOUT

T = TypeVar("T")


class Decoded(NamedTuple):
    """A decoded credential: the uid of the user who made it, its payload, and its age."""

    uid: int
    payload: bytes
    age_s: int


class Libmunge:
    """munged at a socket ("" for its default). libmunge retries for seconds; a call here ends after `timeout_s`."""

    def __init__(self, socket: str, *, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    def encode(self, payload: bytes, *, ttl_s: int) -> bytes:
        """A credential of this process's user for `payload`; UnreachableError if munged does not answer."""
        return self._with_timeout(lambda library: self._encode(library, payload, ttl_s))

    def decode(self, credential: bytes) -> Decoded:
        """The content of a credential; PermissionDeniedError if it is invalid, expired or was decoded before."""
        return self._with_timeout(lambda library: self._decode(library, credential))

    def _encode(self, library: ctypes.CDLL, payload: bytes, ttl_s: int) -> bytes:
        context, credential = self._context(library), ctypes.c_void_p()
        try:
            library.munge_ctx_set(context, _TTL, ctypes.c_int(ttl_s))
            error = library.munge_encode(ctypes.byref(credential), context, payload, len(payload))
            if error != _SUCCESS:
                raise UnreachableError(
                    f"munge gave no credential: {_reason(library, context, error)}.",
                    hint="Is munged running on this host?",
                )
            return ctypes.string_at(credential)
        finally:
            library.munge_ctx_destroy(context)
            library.free(credential)

    def _decode(self, library: ctypes.CDLL, credential: bytes) -> Decoded:
        context, payload, size = self._context(library), ctypes.c_void_p(), ctypes.c_int()
        uid, gid = ctypes.c_uint32(), ctypes.c_uint32()
        made, now = ctypes.c_long(), ctypes.c_long()
        try:
            error = library.munge_decode(
                credential,
                context,
                ctypes.byref(payload),
                ctypes.byref(size),
                ctypes.byref(uid),
                ctypes.byref(gid),
            )
            if error != _SUCCESS:
                why = _reason(library, context, error)
                if error in _UNAVAILABLE:
                    raise UnreachableError(f"munged did not answer: {why}.", hint="Is munged in good health?")
                raise PermissionDeniedError(f"The MUNGE credential was refused: {why}.")
            library.munge_ctx_get(context, _ENCODE_TIME, ctypes.byref(made))
            library.munge_ctx_get(context, _DECODE_TIME, ctypes.byref(now))
            return Decoded(uid.value, ctypes.string_at(payload, size.value), now.value - made.value)
        finally:
            library.munge_ctx_destroy(context)
            library.free(payload)

    def _context(self, library: ctypes.CDLL) -> ctypes.c_void_p:
        context = ctypes.c_void_p(library.munge_ctx_create())
        if not context:
            raise UnreachableError("Out of memory for a MUNGE credential.")
        if self._socket:
            library.munge_ctx_set(context, _SOCKET, ctypes.c_char_p(self._socket.encode()))
        return context

    def _with_timeout(self, call: Callable[[ctypes.CDLL], T]) -> T:
        results: list[T] = []
        errors: list[Exception] = []
        library = _load()

        def run() -> None:
            try:
                results.append(call(library))
            except Exception as error:  # noqa: BLE001 -- raised again below
                errors.append(error)

        thread = threading.Thread(target=run, name="munge", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise UnreachableError("Cannot start a thread for munged.") from error
        thread.join(self._timeout_s)
        if errors:
            raise errors[0]
        if not results:
            raise UnreachableError(
                f"munged did not answer within {self._timeout_s:g} s.", hint="Is munged in good health?"
            )
        return results[0]


@cache
def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise UnreachableError(f"The library {_LIBRARY} is missing.", hint="Install munge.") from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    library.munge_ctx_create.restype = pointer
    library.munge_ctx_destroy.argtypes = (pointer,)
    library.munge_ctx_strerror.argtypes, library.munge_ctx_strerror.restype = (pointer,), ctypes.c_char_p
    library.munge_strerror.argtypes, library.munge_strerror.restype = (number,), ctypes.c_char_p
    library.munge_encode.argtypes = (pointer, pointer, ctypes.c_char_p, number)
    library.munge_decode.argtypes = (ctypes.c_char_p, *[pointer] * 5)
    library.free.argtypes, library.free.restype = (pointer,), None
    return library


def _reason(library: ctypes.CDLL, context: ctypes.c_void_p, error: int) -> str:
    text = library.munge_ctx_strerror(context) or library.munge_strerror(error) or b"unknown error"
    return str(text.decode(errors="replace").rstrip("."))
