"""Keys in order: the first one at once, any one's place and any change in a few microseconds, with 10^5 of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=tuple[Any, ...])

_BLOCK = 256
"""A block that grows to twice as many is split."""


class Ordered(Generic[K]):
    """A sorted sequence of different keys, in blocks, so that no change moves more than a block's worth.

    A heap would give the first as fast, but not the place of one in the middle, which those who wait ask for.
    """

    def __init__(self) -> None:
        self._blocks: list[list[K]] = []
        self._lasts: list[K] = []  # of each block
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        for block in self._blocks:
            yield from block

    def first(self) -> K:
        """The lowest key; there must be one."""
        return self._blocks[0][0]

    def add(self, key: K) -> None:
        """Put a key in that is not there yet."""
        self._length += 1
        if not self._blocks:
            self._blocks.append([key])
            self._lasts.append(key)
            return
        at = min(bisect_left(self._lasts, key), len(self._blocks) - 1)
        block = self._blocks[at]
        insort(block, key)
        if len(block) >= 2 * _BLOCK:
            self._blocks[at : at + 1] = block[:_BLOCK], block[_BLOCK:]
            self._lasts[at : at + 1] = block[_BLOCK - 1], block[-1]
        else:
            self._lasts[at] = block[-1]

    def remove(self, key: K) -> None:
        """Take a key out; KeyError if it is not there."""
        at = bisect_left(self._lasts, key)
        block = self._blocks[at] if at < len(self._blocks) else []
        inside = bisect_left(block, key)
        if inside == len(block) or block[inside] != key:
            raise KeyError(key)
        self._length -= 1
        del block[inside]
        if block:
            self._lasts[at] = block[-1]
        else:
            del self._blocks[at], self._lasts[at]

    def place(self, key: K) -> int:
        """How many keys are lower."""
        at = bisect_left(self._lasts, key)
        if at == len(self._blocks):
            return self._length
        return sum(map(len, self._blocks[:at])) + bisect_left(self._blocks[at], key)

    def at(self, place: int) -> K:
        """The key that has `place` lower ones; IndexError if there is none."""
        for block in self._blocks:
            if place < len(block):
                return block[place]
            place -= len(block)
        raise IndexError(place)
