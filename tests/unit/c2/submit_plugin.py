"""C2's submit plugin in a Lua of our own."""

from __future__ import annotations

from typing import Any

import lupa.lua53
from testbed.render import Variables, defaults, render


class Plugin:
    """deploy/c2/job_submit.lua in Lua 5.3, which Slurm has, with a slurmctld that knows these jobs."""

    def __init__(self, *jobs: dict[str, Any], variables: Variables | None = None) -> None:
        self.said: list[str] = []
        self._lua = lupa.lua53.LuaRuntime(unpack_returned_tuples=True)
        known = self._lua.table_from([self._lua.table_from({"user_id": 1000, **job}) for job in jobs])
        self._lua.globals()["slurm"] = self._lua.table_from(
            {"SUCCESS": 0, "log_info": lambda *words: None, "log_user": self._say, "jobs": known}
        )
        self._lua.execute(render("c2/job_submit.lua.j2", variables or defaults()))

    def _say(self, form: str, *words: object) -> None:
        self.said.append(form.replace("%s", "{}").format(*words))

    def submitted(self, *, default_partition: str = "batch", **job: Any) -> tuple[int, dict[str, Any]]:
        """The answer, and the job as it is then, with its environment as a dict; `said` is what its user is told."""
        self.said.clear()
        record = self._job(job)
        flags = {default_partition: 1, "other": 0}
        partitions = {name: self._lua.table_from({"flag_default": flag}) for name, flag in flags.items()}
        answer = self._lua.globals().slurm_job_submit(record, self._lua.table_from(partitions), 1000)
        made = dict(record)
        return answer, made | {"environment": dict(made["environment"])} if "environment" in made else made

    def refuses(self, record: dict[str, Any], **changes: str) -> bool:
        """Whether an update of some fields of a job's record is refused."""
        update = self._job(changes)
        return bool(self._lua.globals().slurm_job_modify(update, self._job(record), None, 1000) != 0)

    def modified(self, record: dict[str, Any], **changes: str) -> dict[str, Any]:
        """A job's record after an update of some of its fields."""
        update = self._job(changes)
        assert self._lua.globals().slurm_job_modify(update, self._job(record), None, 0) == 0
        return record | {name: update[name] for name in changes}

    def _job(self, fields: dict[str, Any]) -> Any:
        made = {
            name: self._lua.table_from(value) if isinstance(value, dict) else value
            for name, value in fields.items()
        }
        return self._lua.table_from({"user_id": 1000, **made})
