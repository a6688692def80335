"""Who does what on a MySQL or MariaDB server, as far as this user may see it.

Without the privilege PROCESS a user sees its own sessions alone, and without SELECT on ``performance_schema``
nothing of who blocks whom. What cannot be read is left out: it is information, not a part of any decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from migrator.dialects import RawConnection
from migrator.dialects.mysql_sql import records, text
from migrator.results import Activity, Blocker, LockHolder, Progress

APPLICATION = "migrator_application"
"""The user variable that holds what this session is doing: MySQL has no settable application name."""

# Another session's user variables; MariaDB has performance_schema off unless it is switched on.
_APPLICATION = (
    "SELECT v.variable_value AS application FROM performance_schema.user_variables_by_thread v "
    "JOIN performance_schema.threads t ON t.thread_id = v.thread_id "
    f"WHERE v.variable_name = '{APPLICATION}' AND t.processlist_id = {{pid}}"
)
_SESSION = (
    "t.processlist_id AS id, t.processlist_user AS user, t.processlist_host AS host, "
    "t.processlist_command AS command, t.processlist_time AS time"
)
# MariaDB needs the instrument wait/lock/metadata/sql/mdl for it.
_METADATA_LOCKS = (
    f"SELECT DISTINCT {_SESSION}, w.object_name AS relation FROM performance_schema.metadata_locks w "
    "JOIN performance_schema.threads me ON me.thread_id = w.owner_thread_id "
    "JOIN performance_schema.metadata_locks g ON g.object_type = w.object_type "
    "AND g.object_schema <=> w.object_schema AND g.object_name <=> w.object_name "
    "AND g.lock_status = 'GRANTED' AND g.owner_thread_id <> w.owner_thread_id "
    "JOIN performance_schema.threads t ON t.thread_id = g.owner_thread_id "
    "WHERE w.lock_status = 'PENDING' AND me.processlist_id = {pid}"
)
# MariaDB's plugin of that name lists what is granted: an ALTER holds a weaker lock on the table it waits for.
_METADATA_LOCK_INFO = (
    "SELECT DISTINCT p.id, p.user, p.host, p.command, p.time, g.table_name AS relation "
    "FROM information_schema.metadata_lock_info w JOIN information_schema.metadata_lock_info g "
    "ON g.lock_type = w.lock_type AND g.table_schema = w.table_schema AND g.table_name = w.table_name "
    "AND g.thread_id <> w.thread_id JOIN information_schema.processlist p ON p.id = g.thread_id "
    "WHERE w.lock_type = 'Table metadata lock' AND w.thread_id = {pid} "
    "AND EXISTS (SELECT 1 FROM information_schema.processlist q WHERE q.id = {pid} "
    "AND q.state LIKE 'Waiting for table metadata lock%')"
)
# MySQL's row locks, from 8.0 on.
_DATA_LOCK_WAITS = (
    f"SELECT DISTINCT {_SESSION}, l.object_name AS relation FROM performance_schema.data_lock_waits w "
    "JOIN performance_schema.threads me ON me.thread_id = w.requesting_thread_id "
    "JOIN performance_schema.threads t ON t.thread_id = w.blocking_thread_id "
    "JOIN performance_schema.data_locks l ON l.engine_lock_id = w.requesting_engine_lock_id "
    "WHERE me.processlist_id = {pid}"
)
# MariaDB's row locks.
_INNODB_LOCK_WAITS = (
    "SELECT DISTINCT p.id, p.user, p.host, p.command, p.time, l.lock_table AS relation "
    "FROM information_schema.innodb_lock_waits w "
    "JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_trx_id "
    "JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id "
    "JOIN information_schema.innodb_locks l ON l.lock_id = w.requested_lock_id "
    "JOIN information_schema.processlist p ON p.id = b.trx_mysql_thread_id "
    "WHERE r.trx_mysql_thread_id = {pid}"
)
_BLOCKERS = (_METADATA_LOCKS, _METADATA_LOCK_INFO, _DATA_LOCK_WAITS, _INNODB_LOCK_WAITS)
# MySQL counts the work of a stage where its instruments are on; MariaDB tells in its process list.
_STAGE = (
    "SELECT s.event_name, s.work_completed, s.work_estimated "
    "FROM performance_schema.events_stages_current s "
    "JOIN performance_schema.threads t ON t.thread_id = s.thread_id "
    "WHERE t.processlist_id = {pid} AND s.work_estimated > 0"
)


def holder_of(raw: RawConnection, pid: int) -> LockHolder:
    """What can be told of the session that holds the lock."""
    session = _session(raw, pid)
    if session is None:
        return LockHolder(pid=pid, application="")
    return LockHolder(
        pid=pid,
        application=_application(raw, pid) or _from(session),
        user=text(session["user"]),
        state=_state(session, "idle"),
        since_seconds=_seconds(session),
        statement=text(session["info"]),
    )


def activity_of(raw: RawConnection, pid: int) -> Activity:
    """What that session runs, who blocks it, and how far it is."""
    session = _session(raw, pid)
    if session is None or _idle(session):
        return Activity()
    return Activity(
        statement=text(session["info"]),
        statement_seconds=_seconds(session),
        blockers=_blockers(raw, pid),
        progress=_progress(raw, pid, session),
    )


def _session(raw: RawConnection, pid: int) -> dict[str, Any] | None:
    found = records(raw, f"SELECT * FROM information_schema.processlist WHERE id = {int(pid)}")
    return found[0] if found else None


def _readable(raw: RawConnection, sql: str) -> Iterator[dict[str, Any]]:
    """The rows, or none: a table that this server does not have, or this user may not read."""
    try:
        found = records(raw, sql)
    except Exception:
        return
    yield from found


def _application(raw: RawConnection, pid: int) -> str:
    return next((text(row["application"]) for row in _readable(raw, _APPLICATION.format(pid=int(pid)))), "")


def _blockers(raw: RawConnection, pid: int) -> tuple[Blocker, ...]:
    for question in _BLOCKERS:
        found = tuple(
            Blocker(
                pid=int(row["id"]),
                application=_application(raw, int(row["id"])) or _from(row),
                user=text(row["user"]),
                state=_state(row, "idle in transaction"),
                since_seconds=_seconds(row),
                # MariaDB: `database`.`table`
                relation=text(row["relation"]).split(".")[-1].strip("`"),
            )
            for row in _readable(raw, question.format(pid=int(pid)))
        )
        if found:
            return found
    return ()


def _progress(raw: RawConnection, pid: int, session: dict[str, Any]) -> Progress | None:
    for row in _readable(raw, _STAGE.format(pid=int(pid))):
        phase = text(row["event_name"]).rpartition("/")[2]
        return Progress(phase, int(row["work_completed"]), int(row["work_estimated"]), "units")
    stages = int(session.get("max_stage") or 0)
    if not stages:
        return None
    phase = f"{text(session['state'])}, stage {int(session['stage'])} of {stages}"
    return Progress(phase, round(float(session["progress"])), 100, "hundredths")


def _from(session: dict[str, Any]) -> str:
    """Where a session comes from, in the place of a name; the port says nothing to anybody."""
    host = text(session["host"]).rpartition(":")[0] or text(session["host"])
    return f"from {host}" if host else ""


def _idle(session: dict[str, Any]) -> bool:
    return text(session["command"]) == "Sleep"


def _state(session: dict[str, Any], idle: str) -> str:
    return idle if _idle(session) else "active"


def _seconds(session: dict[str, Any]) -> float:
    """Since when it is in this state; MariaDB counts milliseconds as well."""
    milliseconds = session.get("time_ms")
    return max(0.0, float(milliseconds) / 1000 if milliseconds is not None else float(session["time"] or 0))
