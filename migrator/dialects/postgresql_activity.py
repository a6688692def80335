"""Who does what on a PostgreSQL server: who holds a lock, what a backend runs, who blocks it, how far it is."""

from __future__ import annotations

from migrator.dialects import RawConnection, rows
from migrator.results import Activity, Blocker, LockHolder, Progress


def holder_where(raw: RawConnection, condition: str) -> LockHolder | None:
    """The session that holds the lock which ``condition`` finds in ``pg_locks``, there called ``l``."""
    found = rows(
        raw,
        "SELECT l.pid, a.application_name, a.usename, a.state, "
        "extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.state_change)), a.query "
        "FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid "
        f"WHERE {condition} LIMIT 1",
    )
    if not found:
        return None
    pid, application, user, state, since, statement = found[0]
    return LockHolder(
        pid=int(pid),
        application=str(application or ""),
        user=str(user or ""),
        state=str(state or ""),
        since_seconds=max(0.0, float(since or 0)),
        statement=str(statement or ""),
    )


def activity_of(raw: RawConnection, pid: int) -> Activity:
    """What the backend is doing, asked from another connection."""
    own = rows(
        raw,
        "SELECT a.query, extract(epoch FROM clock_timestamp() - a.query_start), "
        "(SELECT string_agg(DISTINCT l.relation::regclass::text, ', ') FROM pg_catalog.pg_locks l "
        f"WHERE l.pid = {pid} AND NOT l.granted AND l.relation IS NOT NULL "
        "AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d "
        "WHERE d.datname = current_database())) "
        f"FROM pg_catalog.pg_stat_activity a WHERE a.pid = {pid} AND a.state = 'active'",
    )
    if not own:
        return Activity()
    statement, seconds, relation = own[0]
    blockers = tuple(
        Blocker(
            pid=int(number),
            application=str(application or ""),
            user=str(user or ""),
            state=str(state or ""),
            since_seconds=max(0.0, float(since or 0)),
            relation=str(relation or ""),
        )
        for number, application, user, state, since in rows(
            raw,
            "SELECT a.pid, coalesce(nullif(a.application_name, ''), nullif(a.backend_type, 'client backend')), "
            "a.usename, a.state, extract(epoch FROM clock_timestamp() - a.state_change) "
            f"FROM unnest(pg_blocking_pids({pid})) AS b (pid) "
            "JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid ORDER BY a.state_change",
        )
    )
    return Activity(str(statement or ""), max(0.0, float(seconds or 0)), blockers, _progress(raw, pid))


_PROGRESS = """
SELECT p.phase, p.done, p.total, p.unit FROM (
  SELECT pid, phase,
    CASE WHEN phase LIKE 'waiting%' THEN lockers_done
         WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END AS done,
    CASE WHEN phase LIKE 'waiting%' THEN lockers_total
         WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END AS total,
    CASE WHEN phase LIKE 'waiting%' THEN 'transactions'
         WHEN tuples_total > 0 THEN 'tuples' ELSE 'blocks' END AS unit
  FROM pg_catalog.pg_stat_progress_create_index
  UNION ALL
  SELECT pid, command || ': ' || phase, heap_blks_scanned, heap_blks_total, 'blocks'
  FROM pg_catalog.pg_stat_progress_cluster
  UNION ALL
  SELECT pid, phase, heap_blks_scanned, heap_blks_total, 'blocks' FROM pg_catalog.pg_stat_progress_vacuum
  UNION ALL
  SELECT pid, phase, sample_blks_scanned, sample_blks_total, 'blocks'
  FROM pg_catalog.pg_stat_progress_analyze
  UNION ALL
  SELECT pid, command, bytes_processed, bytes_total, 'bytes' FROM pg_catalog.pg_stat_progress_copy
) AS p WHERE p.pid = {pid}
"""


def _progress(raw: RawConnection, pid: int) -> Progress | None:
    found = rows(raw, _PROGRESS.format(pid=pid))
    if not found:
        return None
    phase, done, total, unit = found[0]
    return Progress(str(phase), int(done or 0), int(total or 0), str(unit))
