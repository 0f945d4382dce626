"""The fields of a job description in API v0.0.39, and the type of each: a table.

Read off the OpenAPI document that slurmrestd 23.02.8 serves. A field that is not here is ignored by that
server without a word, so it is refused before it leaves.
"""

from __future__ import annotations

from typing import Literal

Type = Literal["text", "integer", "boolean", "texts", "number", "nodes", "environment", "object"]
"""texts: a list of strings. number: an integer, or {set, infinite, number}. nodes: a text or an integer."""

_BY_TYPE: dict[Type, str] = {
    "text": """
        account account_gather_frequency admin_comment allocation_node_list array batch_features
        burst_buffer clusters cluster_constraint comment container container_id cpu_binding
        cpu_frequency cpus_per_tres dependency extra constraints group_id licenses mail_user
        mcs_label memory_binding memory_per_tres name network partition prefer qos reservation
        script distribution tres_bind tres_freq tres_per_job tres_per_node tres_per_socket
        tres_per_task user_id kill_warning_signal current_working_directory selinux_context
        standard_error standard_input standard_output wckey x11_magic_cookie x11_target_host
    """,
    "integer": """
        allocation_node_port core_specification thread_specification deadline delay_boot
        end_time hetjob_group job_id nice tasks reserve_ports site_factor
        cpus_per_task minimum_cpus maximum_cpus minimum_nodes maximum_nodes minimum_boards_per_node
        minimum_sockets_per_board sockets_per_node threads_per_core tasks_per_node tasks_per_socket
        tasks_per_core tasks_per_board ntasks_per_tres minimum_cpus_per_node temporary_disk_per_node
        wait_for_switch x11_target_port
    """,
    "boolean": """
        contiguous immediate kill_on_node_fail overcommit hold reboot requeue oversubscribe
        wait_all_nodes
    """,
    "texts": """
        argv flags cpu_binding_flags excluded_nodes mail_type memory_binding_type open_mode
        power_flags profile required_nodes shared exclusive spank_environment kill_warning_flags x11
    """,
    "number": """
        begin_time distribution_plane_size
        priority time_limit time_minimum kill_warning_delay required_switches memory_per_cpu
        memory_per_node
    """,
    "nodes": "nodes",
    "environment": "environment",
    "object": "crontab",
}

FINITE = ("begin_time", "distribution_plane_size")
"""Of the numbers those that can't be infinite: older versions have a plain integer there."""

JOB_FIELDS: dict[str, Type] = {name: kind for kind, names in _BY_TYPE.items() for name in names.split()}
"""The type of each field of a job."""

IN_WORDS: dict[Type, str] = {
    "text": "a string",
    "integer": "an integer",
    "boolean": "true or false",
    "texts": "a list of strings",
    "number": 'an integer, or {"set": true, "infinite": false, "number": 5}',
    "nodes": 'a string such as "1" or "1-4", or an integer',
    "environment": 'a list of "NAME=value", or an object',
    "object": "an object",
}
