"""The records at Quantum Inspire that an execution needs: those it creates, and those it reads.

A submission creates, in this order: project, algorithm, commit, file, batch, job; then the batch is enqueued.
Project and algorithm are the same for all circuits of a backend.
"""

from __future__ import annotations

from typing import Any, TypeVar

from qslurm.runtimes.quantum_inspire.platform_link import (
    PlatformLink,
    RequestRefusedError,
    UnavailableError,
    clean_text,
)
from qslurm.runtimes.quantum_inspire.platform_tokens import Tokens

T = TypeVar("T")

_PAGES = 100
_LANGUAGE = ("cqasm", "3.0")


class PlatformRecords:
    """Reads and creates records. All methods raise UnavailableError and RequestRefusedError."""

    def __init__(self, link: PlatformLink, tokens: Tokens, project: str) -> None:
        self._link = link
        self._tokens = tokens
        self._project = project
        self._algorithm: int | None = None
        self._language: int | None = None

    def backend_type_id(self, name: str) -> int:
        """The id of the backend type with this name; UnavailableError lists the available ones."""
        call = "read_backend_types_backend_types_get"
        found = {each.name: int(each.id) for each in self._all_pages("BackendTypesApi", call)}
        if name not in found:
            available = ", ".join(sorted(map(clean_text, found))) or "none"
            raise UnavailableError(f"unknown backend type {name!r}. Available: {available}")
        return found[name]

    def put(self, type_id: int, program: str, shots: int, *, raw_data: bool) -> tuple[int, int]:
        """Create a job for a circuit; returns its id and its batch's. Nothing is executed yet."""
        import compute_api_client as api

        try:
            if self._algorithm is None:
                self._algorithm = self._find_algorithm()
            if self._language is None:
                self._language = self._find_language()
        except RequestRefusedError as error:  # not the circuit's fault
            raise UnavailableError(f"it stores no records for this account: {error.message}") from error
        commit = api.CommitIn(description="A circuit sent by qslurm", algorithm_id=self._algorithm)
        try:
            committed = self._link.call(api.Commit, "CommitsApi", "create_commit_commits_post", commit)
        except RequestRefusedError as error:  # the project was removed; the next attempt creates another
            self._algorithm = None
            raise UnavailableError(f"it stores no circuits: {error.message}") from error
        file = api.FileIn(
            commit_id=committed.id,
            content=program,
            language_id=self._language,
            compile_stage=api.CompileStage.NONE,
            compile_properties={},
            name="circuit",
        )
        stored = self._link.call(api.File, "FilesApi", "create_file_files_post", file)
        batch_in = api.BatchJobIn(backend_type_id=type_id)
        try:
            batch = self._link.call(
                api.BatchJob, "BatchJobsApi", "create_batch_job_batch_jobs_post", batch_in
            )
        except RequestRefusedError as error:
            raise UnavailableError(f"it accepts no batches: {error.message}") from error
        job_in = api.JobIn(
            file_id=stored.id, batch_job_id=batch.id, number_of_shots=shots, raw_data_enabled=raw_data
        )
        job = self._link.call(api.Job, "JobsApi", "create_job_jobs_post", job_in)
        return job.id, batch.id

    def is_enqueued(self, batch_id: int) -> bool:
        """Whether a batch has been enqueued."""
        import compute_api_client as api

        batches = self._all_pages("BatchJobsApi", "read_batch_jobs_batch_jobs_get", id=batch_id)
        status = next((batch.status for batch in batches if batch.id == batch_id), None)
        if status is None:
            raise RequestRefusedError(f"batch {batch_id} no longer exists", 404)
        return bool(status != api.BatchJobStatus.PLANNED)

    def enqueue(self, batch_id: int) -> None:
        """Enqueue a batch."""
        import compute_api_client as api

        call = "enqueue_batch_job_batch_jobs_id_enqueue_patch"
        self._link.call(api.BatchJob, "BatchJobsApi", call, batch_id)

    def job(self, job_id: int) -> Any:
        """The current state of a job."""
        import compute_api_client as api

        job = self._link.call(api.Job, "JobsApi", "read_job_jobs_id_get", job_id)
        if job.id != job_id:
            raise UnavailableError(f"it returned job {job.id} instead of {job_id}")
        return job

    def results(self, job_id: int) -> list[Any]:
        """The results of a job, oldest first."""
        call = "read_results_by_job_id_results_job_job_id_get"
        found = [each for each in self._all_pages("ResultsApi", call, job_id=job_id) if each.job_id == job_id]
        return sorted(found, key=lambda each: int(each.id))

    def _find_algorithm(self) -> int:
        """The algorithm whose commits are our circuits; created, with its project, if missing."""
        import compute_api_client as api

        name = self._project
        projects = self._all_pages("ProjectsApi", "read_projects_projects_get", name=name)
        project = next((each.id for each in projects if each.name == name), None)
        if project is None:
            wanted = api.ProjectIn(owner_id=self._member(), name=name, description="Circuits sent by qslurm")
            project = self._link.call(api.Project, "ProjectsApi", "create_project_projects_post", wanted).id
        algorithms = self._all_pages(
            "AlgorithmsApi", "read_algorithms_algorithms_get", project_id=project, name=name
        )
        ours = (each.id for each in algorithms if (each.name, each.project_id) == (name, project))
        algorithm: int | None = next(ours, None)
        if algorithm is None:
            make = api.AlgorithmIn(
                project_id=project, type=api.AlgorithmType.QUANTUM, shared=api.ShareType.PRIVATE, name=name
            )
            made = self._link.call(api.Algorithm, "AlgorithmsApi", "create_algorithm_algorithms_post", make)
            algorithm = int(made.id)
        return algorithm

    def _member(self) -> int:
        if self._tokens.member is not None:
            return self._tokens.member
        members = self._all_pages("MembersApi", "read_members_members_get")
        if len(members) != 1:
            raise RequestRefusedError(
                f"the account is in {len(members)} teams: set `team_member_id` in the credentials", 403
            )
        return int(members[0].id)

    def _find_language(self) -> int:
        name, version = _LANGUAGE
        languages = self._all_pages("LanguagesApi", "read_languages_languages_get")
        cqasm = [each for each in languages if each.name.lower() == name]
        exact = [each for each in cqasm if each.version == version]
        if not exact:
            known = ", ".join(clean_text(each.version) for each in cqasm) or "none"
            raise RequestRefusedError(f"it does not support cQASM {version}. Supported: {known}", 404)
        return int(exact[0].id)

    def _all_pages(self, api: str, method: str, **named: Any) -> list[Any]:
        """The items of all pages."""
        items: list[Any] = []
        for number in range(1, _PAGES + 1):
            page = self._link.call(object, api, method, page=number, **named)
            found = getattr(page, "items", None)
            if not isinstance(found, list):
                raise UnavailableError(f"its reply to {method} is not a page")
            items += found
            if number >= (getattr(page, "pages", None) or 1):
                break
        return items
