"""The session and server variables of MySQL and MariaDB that matter to a run."""

from __future__ import annotations

import math
from collections.abc import Mapping

from migrator.dialects import RawConnection, SessionOptions, rows
from migrator.dialects.mysql_activity import APPLICATION
from migrator.dialects.mysql_sql import literal, variables

IDLE_SECONDS = 8 * 3600
"""Least ``wait_timeout`` of a run, the manual's default: a server that takes idle connections away after a
minute would take the lock with it while a revision computes. No longer: it also ends the session of a client
whose host is gone."""

NETWORK_SECONDS = 600
"""Least ``net_read_timeout`` and ``net_write_timeout`` of a run."""

LOCK_TIMEOUTS = ("lock_wait_timeout", "innodb_lock_wait_timeout")
"""For metadata locks (of DDL) and for the row locks of InnoDB; whole seconds, at least 1."""

_AT_LEAST = {
    "wait_timeout": IDLE_SECONDS,
    "net_read_timeout": NETWORK_SECONDS,
    "net_write_timeout": NETWORK_SECONDS,
}

_OFF = ("idle_transaction_timeout", "idle_readonly_transaction_timeout", "idle_write_transaction_timeout")
"""MariaDB's: they end the connection of a transaction that is idle."""

_STATEMENT_TIMEOUTS = {"max_statement_time": 1.0, "max_execution_time": 1000.0}
"""MariaDB's, in seconds, and MySQL's, in milliseconds and for SELECT alone."""

CHANGED = (*LOCK_TIMEOUTS, *_AT_LEAST, *_OFF, *_STATEMENT_TIMEOUTS)
"""The session variables that are changed for a run, as far as the server has them."""

_READ_ONLY = ("read_only", "super_read_only", "innodb_read_only")

_CLUSTER = (
    "wsrep_on",
    "wsrep_provider",
    "group_replication_group_name",
    "group_replication_single_primary_mode",
)

_LONGEST_LOCK_TIMEOUT = 31_536_000


def whole_seconds(seconds: float) -> int:
    """A lock timeout as the server takes it: rounded up, for 0 means "at once" there; 0 here is "no limit"."""
    return max(1, math.ceil(seconds)) if seconds > 0 else _LONGEST_LOCK_TIMEOUT


def wanted(raw: RawConnection, previous: Mapping[str, str], options: SessionOptions) -> dict[str, str]:
    """The session variables of a run. What differs from the server's default is the project's own."""
    chosen = {name: str(whole_seconds(options.lock_timeout)) for name in LOCK_TIMEOUTS}
    if options.keep_lock_timeout:
        default = variables(raw, LOCK_TIMEOUTS, "GLOBAL")
        chosen |= {name: previous[name] for name in LOCK_TIMEOUTS if previous[name] != default[name]}
    chosen |= {name: str(max(least, int(previous[name]))) for name, least in _AT_LEAST.items()}
    chosen |= {name: "0" for name in _OFF if name in previous}
    if options.statement_timeout is not None:
        milliseconds = max(1, round(options.statement_timeout * 1000))
        for name, units in _STATEMENT_TIMEOUTS.items():
            if name in previous:
                chosen[name] = f"{milliseconds * units / 1000:.15g}"
    return chosen


def assign(raw: RawConnection, settings: Mapping[str, str]) -> None:
    """Set session and user variables, all or none."""
    assignments = (
        f"{name if name.startswith('@') else f'SESSION {name}'} = {value}" for name, value in settings.items()
    )
    rows(raw, f"SET {', '.join(assignments)}")


def named(application_name: str | None) -> dict[str, str]:
    """The user variable that says what this session is doing, for ``assign``."""
    return {f"@{APPLICATION}": literal(application_name) if application_name else "NULL"}


def joined(settings: Mapping[str, str]) -> str:
    """Both lock timeouts as one text."""
    return " ".join(settings[name] for name in LOCK_TIMEOUTS)


def apart(lock_timeout: str) -> dict[str, str]:
    """What ``joined`` put together."""
    return dict(zip(LOCK_TIMEOUTS, lock_timeout.split(), strict=True))


def reads_only(raw: RawConnection) -> bool:
    """The server is a replica, or was made read-only.

    Also for a user who may write all the same: what is changed on a replica is lost, or breaks it.
    """
    return any(value not in ("OFF", "0") for value in variables(raw, _READ_ONLY, "GLOBAL").values())


def cluster(raw: RawConnection) -> str:
    """What makes user-level locks hold on one node alone while others accept writes; empty where nothing does.

    Galera certifies rows, not user-level locks; MySQL says the same of Group Replication (8.4, 20.3.2 "Group
    Replication Limitations").
    """
    settings = variables(raw, _CLUSTER, "GLOBAL")
    if settings.get("wsrep_on") == "ON" and settings.get("wsrep_provider", "none") != "none":
        return "a Galera cluster (wsrep_on)"
    several = settings.get("group_replication_single_primary_mode") == "OFF"
    if several and settings.get("group_replication_group_name"):
        return "a replication group with several primaries"
    return ""
