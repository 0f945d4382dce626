"""Runs tasks with dependencies, concurrently where possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter


def run(after: Mapping[str, Iterable[str]], work: Callable[[str], None]) -> None:
    """Call `work` for each name after the names that it depends on; after an error no further one begins."""
    sorter = TopologicalSorter(
        {name: [one for one in before if one in after] for name, before in after.items()}
    )
    sorter.prepare()
    with ThreadPoolExecutor(max_workers=max(1, len(after))) as pool:
        busy: dict[Future[None], str] = {}
        while sorter.is_active():
            busy |= {pool.submit(work, name): name for name in sorter.get_ready()}
            done, _ = wait(busy, return_when=FIRST_COMPLETED)
            for future in done:
                name = busy.pop(future)
                future.result()
                sorter.done(name)
