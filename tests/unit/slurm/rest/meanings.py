"""What every exchange recorded with a real slurmrestd means to the client, in one table for all API versions.

A new recording needs a row here. Where the meaning changed, it is given by API version.
"""

from __future__ import annotations

from typing import Any

from recordings import RECORDED

from qslurm.errors import (
    AccountingAwayError,
    DuplicateError,
    PermissionDeniedError,
    QslurmError,
    RefusedError,
    TokenError,
    UncertainError,
    UnknownJobError,
    UnreachableError,
)

FINE = None

Meaning = type[QslurmError] | tuple[type[QslurmError], int] | None

TOKEN: dict[str, Any] = {
    "auth_alg_none": TokenError,
    "auth_as_root_with_center_token": TokenError,
    "auth_expired": TokenError,
    "auth_expired_submit": TokenError,
    "auth_garbage": TokenError,
    "auth_no_token": TokenError,
    "auth_none": TokenError,
    "auth_other_key": TokenError,
    "auth_other_key_cancel": TokenError,
    "auth_other_key_job": TokenError,
    "auth_other_key_jobs": TokenError,
    "auth_other_key_submit": TokenError,
    "auth_other_user": TokenError,
    "slurmdb_auth_other_key": TokenError,
}

SUBMISSIONS: dict[str, Any] = {
    "auth_root_token_as_center": FINE,
    "auth_slurmuser_token_as_center": FINE,
    "auth_unknown_user": FINE,
    "submit_array": FINE,
    "submit_bad_account": (RefusedError, 2045),
    "submit_bad_json": RefusedError,
    "submit_bad_partition": (RefusedError, 2000),
    "submit_bad_qos": (RefusedError, 2066),
    "submit_bad_reservation": (RefusedError, 2053),
    "submit_bad_type": RefusedError,
    "submit_begin": {"v0.0.38": (RefusedError, 2054), "v0.0.39": FINE},
    "submit_begin_object": {"v0.0.38": RefusedError, "v0.0.40": FINE},
    "submit_comment": FINE,
    "submit_completes": FINE,
    "submit_dependency_bad": {"v0.0.38": FINE, "v0.0.38-of-23.02": (RefusedError, 2038)},
    "submit_during_reservation": FINE,
    "submit_empty_body": {"v0.0.38": (RefusedError, 2009), "v0.0.39": (RefusedError, 9000)},
    "submit_empty_script": {"v0.0.38": FINE, "v0.0.39": (RefusedError, 9000)},
    "submit_environment_dict": FINE,
    "submit_environment_empty_list": {
        "v0.0.38": (RefusedError, 9001),
        "v0.0.39": (RefusedError, 9200),
        "v0.0.40": (RefusedError, 2019),
        "v0.0.43": (RefusedError, 2127),
    },
    "submit_environment_list": {"v0.0.38": (RefusedError, 9001), "v0.0.39": FINE},
    "submit_exclusive": {"v0.0.38": (RefusedError, 9202), "v0.0.39": FINE},
    "submit_fails": FINE,
    "submit_hold": FINE,
    "submit_key": FINE,
    "submit_key_duplicate": (DuplicateError, 2011),
    "submit_no_cwd": FINE,
    "submit_no_environment": {
        "v0.0.38": (RefusedError, 2127),
        "v0.0.39": (RefusedError, 9200),
        "v0.0.40": (RefusedError, 2019),
        "v0.0.43": (RefusedError, 2127),
    },
    "submit_no_script": {"v0.0.38": (RefusedError, 2009), "v0.0.40": (RefusedError, 9000)},
    "submit_no_shebang": FINE,
    "submit_node_down": FINE,
    "submit_node_drained": FINE,
    "submit_nodes_integer": FINE,
    "submit_nodes_text": FINE,
    "submit_not_object": {"v0.0.38": (RefusedError, 2009), "v0.0.39": (RefusedError, 9209)},
    "submit_nul_in_script": FINE,
    "submit_ok": FINE,
    "submit_oversubscribe": FINE,
    "submit_paper": FINE,
    "submit_partition_down": FINE,
    "submit_partition_drain": (RefusedError, 2070),
    "submit_partition_inactive": (RefusedError, 2070),
    "submit_plane_size": {"v0.0.38": (RefusedError, 9001), "v0.0.39": FINE},
    "submit_priority_number": FINE,
    "submit_running": FINE,
    "submit_script_inside_job": {"v0.0.38": (RefusedError, 2009), "v0.0.39": FINE},
    "submit_shared": {"v0.0.38": (RefusedError, 9001), "v0.0.39": FINE},
    "submit_signal": {"v0.0.38": (RefusedError, 9001), "v0.0.39": FINE},
    "submit_time_limit_number": FINE,
    "submit_time_limit_object": {"v0.0.38": (RefusedError, 9202), "v0.0.39": FINE},
    "submit_time_limit_string": {
        "v0.0.38": FINE,
        "v0.0.39": (RefusedError, 9209),
        "v0.0.41": (RefusedError, 9202),
    },
    "submit_time_limit_too_long": (RefusedError, 2051),
    "submit_times_out": FINE,
    "submit_to_cut": FINE,
    "submit_to_update": FINE,
    "submit_too_many_nodes": {"v0.0.38": FINE, "v0.0.39": (RefusedError, 2006)},
    "submit_unicode": FINE,
    "submit_unknown_field": {"v0.0.38": (RefusedError, 9001), "v0.0.39": FINE},
    "submit_user_id_other": {"v0.0.38": (RefusedError, 1), "v0.0.39": (RefusedError, 2010)},
    "submit_user_id_root": (RefusedError, 2010),
}

JOBS: dict[str, Any] = {
    "cancel_finished": FINE,
    "cancel_pending": FINE,
    "cancel_running": FINE,
    "cancel_signal": FINE,
    "cancel_task": FINE,
    "cancel_task_unknown": {"v0.0.38": UnknownJobError, "v0.0.39": FINE, "v0.0.42": UnknownJobError},
    "cancel_too_large": UnknownJobError,
    "cancel_unknown": UnknownJobError,
    "job_array": FINE,
    "job_bad_id": {
        "v0.0.38": (RefusedError, 9002),
        "v0.0.39": UnknownJobError,
        "v0.0.40": (RefusedError, 9000),
    },
    "job_cancelled": FINE,
    "job_cancelled_pending": FINE,
    "job_completed": FINE,
    "job_failed": FINE,
    "job_pending_node_down": FINE,
    "job_pending_partition_down": FINE,
    "job_pending_reservation": FINE,
    "job_running": FINE,
    "job_running_other_user": UnknownJobError,
    "job_running_other_user_cancel": PermissionDeniedError,
    "job_timeout": FINE,
    "job_too_large": UnknownJobError,
    "job_unknown": UnknownJobError,
    "jobs": FINE,
    "jobs_update_time": {
        "v0.0.38": UnreachableError,
        "v0.0.39": FINE,
        "v0.0.40": (RefusedError, 9202),
        "v0.0.42": FINE,
    },
    "slurmdb_job": FINE,
    "slurmdb_job_failed": FINE,
    "slurmdb_job_timeout": FINE,
    "slurmdb_job_unknown": UnknownJobError,
    "slurmdb_jobs": FINE,
    "slurmdb_jobs_failed": {"v0.0.38": (RefusedError, 9000), "v0.0.39": FINE},
    "slurmdb_jobs_of_nobody": {"v0.0.38": (RefusedError, 9000), "v0.0.39": FINE},
    "slurmdb_jobs_of_user": {"v0.0.38": (RefusedError, 9000), "v0.0.39": FINE},
    "update_other_user": {
        "v0.0.38": PermissionDeniedError,
        "v0.0.39": (RefusedError, 9200),
        "v0.0.40": PermissionDeniedError,
    },
    "update_other_user_environment": PermissionDeniedError,
    "update_release": {"v0.0.38": FINE, "v0.0.39": (RefusedError, 9200), "v0.0.40": FINE},
    "update_release_environment": FINE,
    "update_running": {"v0.0.38": FINE, "v0.0.39": (RefusedError, 9200), "v0.0.40": FINE},
    "update_running_environment": FINE,
    "update_unknown": {
        "v0.0.38": UnknownJobError,
        "v0.0.39": (RefusedError, 9200),
        "v0.0.40": UnknownJobError,
    },
    "update_unknown_environment": UnknownJobError,
}

AWAY: dict[str, Any] = {
    "cancel_controller_dead": UnreachableError,
    "job_controller_dead": UnreachableError,
    "job_controller_frozen": UnreachableError,
    "ping_controller_dead": UnreachableError,
    "submit_controller_dead": (UnreachableError, 1800),
    "submit_controller_frozen": {
        "v0.0.38": (UncertainError, 5004),
        "v0.0.38-of-23.02": (UncertainError, 1000),
        "v0.0.40": (UncertainError, 5004),
    },
}

WITHOUT_ACCOUNTING: dict[str, Any] = {
    "cancel_slurmdbd_dead": FINE,
    "job_slurmdbd_dead": FINE,
    "jobs_slurmdbd_dead": FINE,
    "partitions_slurmdbd_dead": FINE,
    "ping_slurmdbd_dead": FINE,
    "ping_slurmdbd_dead_other_key": {"v0.0.38": UnreachableError, "v0.0.38-of-23.02": TokenError},
    "slurmdb_database_dead": AccountingAwayError,
    "slurmdb_dead": AccountingAwayError,
    "slurmdb_jobs_database_dead": {"v0.0.38": (RefusedError, 9000), "v0.0.39": AccountingAwayError},
    "submit_slurmdbd_dead": FINE,
}

OTHERS: dict[str, Any] = {
    "auth_bearer": {"v0.0.38": TokenError, "v0.0.38-of-23.02": FINE},
    "auth_only_token": {"v0.0.38": TokenError, "v0.0.38-of-23.02": FINE},
    "method_not_allowed": {
        "v0.0.38": RefusedError,
        "v0.0.40": UnreachableError,
    },
    "partition": FINE,
    "partition_unknown": {"v0.0.38": RefusedError, "v0.0.43": FINE},
    "partitions": FINE,
    "path_unknown": UnreachableError,
    "ping": FINE,
    "version_unknown": UnreachableError,
}

MEANINGS = {**TOKEN, **SUBMISSIONS, **JOBS, **AWAY, **WITHOUT_ACCOUNTING, **OTHERS}

ALL = [(path.parent.name, path.stem) for path in sorted(RECORDED.glob("*/*.json"))]
"""By folder: the API version, and where it was recorded on two releases of Slurm, the other one (v0.0.38-of-23.02)."""

FOLDERS = {
    folder: [name for of, name in ALL if of == folder]
    for folder in dict.fromkeys(folder for folder, _ in ALL)
}


def meaning_of(name: str, folder: str) -> Meaning:
    said = MEANINGS[name]
    if not isinstance(said, dict):
        return said
    return next(said[since] for since in sorted(said, reverse=True) if folder >= since)


def version_of(folder: str) -> str:
    return folder.partition("-")[0]
