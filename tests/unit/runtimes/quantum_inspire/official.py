"""What `qi files upload` and `qi files run` do, with the packages that they do it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from qslurm.runtimes.quantum_inspire.platform_link import PlatformLink, connect
from tests.unit.runtimes.quantum_inspire.platform import TOKEN, Platform

BELL = "version 3.0; qubit[2] q; bit[2] b; H q[0]; CNOT q[0], q[1]; b = measure q"
HYBRID = "def execute(qi):\n    pass\n\ndef finalize(results):\n    return {}\n"


def ask(platform: Platform, method: str, path: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {options.pop('token', TOKEN)}"}
    return requests.request(method, platform.url + path, headers=headers, timeout=60, **options)


class Official:
    """A user of Quantum Inspire's client, with a file of credentials."""

    def __init__(self, credentials: Path) -> None:
        self.link: PlatformLink
        self.link, self.tokens = connect(str(credentials), 60.0)

    def close(self) -> None:
        self.link.close()

    def asks(self, api: str, method: str, *arguments: Any, **named: Any) -> Any:
        return self.link.call(object, api, method, *arguments, **named)

    def backend_type(self, name: str) -> Any:
        page = self.asks("BackendTypesApi", "read_backend_types_backend_types_get")
        return next(one for one in page.items if one.name == name)

    def hands_in(
        self, text: str, backend: str, *, language: str, shots: int | None = None, raw_data: bool = False
    ) -> tuple[int, int]:
        """All steps of a submission but the last; the numbers of job and batch."""
        import compute_api_client as api

        kind = api.AlgorithmType.HYBRID if language == "python" else api.AlgorithmType.QUANTUM
        project = self.asks(
            "ProjectsApi", "create_project_projects_post",
            api.ProjectIn(owner_id=7, name="a project", description="of somebody's"),
        )  # fmt: skip
        algorithm = self.asks(
            "AlgorithmsApi", "create_algorithm_algorithms_post",
            api.AlgorithmIn(project_id=project.id, type=kind, shared=api.ShareType.PRIVATE, name="vqe"),
        )  # fmt: skip
        commit = self.asks(
            "CommitsApi", "create_commit_commits_post",
            api.CommitIn(description="the first", algorithm_id=algorithm.id),
        )  # fmt: skip
        languages = self.asks("LanguagesApi", "read_languages_languages_get").items
        file = self.asks(
            "FilesApi", "create_file_files_post",
            api.FileIn(
                commit_id=commit.id, content=text, compile_stage=api.CompileStage.NONE, compile_properties={},
                language_id=next(one.id for one in languages if one.name == language),
            ),
        )  # fmt: skip
        batch = self.asks(
            "BatchJobsApi", "create_batch_job_batch_jobs_post",
            api.BatchJobIn(backend_type_id=self.backend_type(backend).id),
        )  # fmt: skip
        job_in = api.JobIn(
            file_id=file.id, batch_job_id=batch.id, number_of_shots=shots, raw_data_enabled=raw_data
        )
        return self.asks("JobsApi", "create_job_jobs_post", job_in).id, batch.id

    def runs(self, text: str, backend: str, *, language: str, shots: int | None = None) -> int:
        """A whole submission; the job's number."""
        job, batch = self.hands_in(text, backend, language=language, shots=shots)
        self.asks("BatchJobsApi", "enqueue_batch_job_batch_jobs_id_enqueue_patch", batch)
        return job

    def job(self, number: int) -> Any:
        return self.asks("JobsApi", "read_job_jobs_id_get", number)

    def batch(self, number: int) -> Any:
        (found,) = self.asks("BatchJobsApi", "read_batch_jobs_batch_jobs_get", id=number).items
        return found

    def results(self, number: int) -> list[Any]:
        return list(self.asks("ResultsApi", "read_results_by_job_id_results_job_job_id_get", number).items)

    def final_result(self, number: int) -> Any:
        call = "read_final_result_by_job_id_final_results_job_job_id_get"
        return self.asks("FinalResultsApi", call, number).final_result

    def logs(self, number: int) -> list[str]:
        return [one.line for one in self.asks("JobsApi", "get_job_logs_jobs_id_logs_get", number).logs]

    def cancels(self, number: int) -> Any:
        import compute_api_client as api

        patch = api.JobPatch(status=api.JobStatus.CANCELLED, message="no more")
        return self.asks("JobsApi", "update_job_status_jobs_id_patch", number, patch)
