"""Proofs about a connection of ``env.py``: that it leads to the configured database, and to one backend."""

from __future__ import annotations

import secrets

from migrator import urls
from migrator.configured import ConfiguredDatabase
from migrator.database import NoAnswer, on_connection_like, on_new_connection
from migrator.dialects import LockKey, Session
from migrator.environment.fence import another_database
from migrator.environment.state import Again, Held, Run, RunAgain
from migrator.errors import ConfigurationError, LockUnusable
from migrator.events import Notice

PROBES = 5
"""How often a pooler that is said to be in session mode is given the occasion to prove the contrary."""


def prove_identity_by_probe(run: Run, held: Held, key: LockKey) -> None:
    """The same proof for a command that does not take the run lock: by a lock that nobody else asks for."""
    if run.settings.database is None or key in run.targets:
        return
    if held.dialect.place(held.raw):
        prove_identity(run, held, key, key, held.session.backend_pid)
        return
    if held.session.pooled and held.dialect.is_autocommit(held.raw):
        return  # Each statement may have a backend of its own here: the probe would stay behind on one.
    probe = LockKey(key.database, key.schema, secrets.token_hex(16))
    held.dialect.try_lock(held.raw, probe)
    session = held.session
    if session.pooled:
        # This transaction's backend, which need not be the one that answered first.
        session = held.dialect.session(held.raw)
    try:
        prove_identity(run, held, key, probe, session.backend_pid)
    finally:
        held.dialect.unlock(held.raw, probe)
        if not held.connection.in_transaction():
            held.raw.commit()


def prove_identity(run: Run, held: Held, key: LockKey, lock: LockKey, pid: int) -> None:
    """What was configured is what ``env.py`` connects to: ``lock``, held by ``pid``, must be visible from there."""
    database = run.settings.database
    if database is None or key in run.targets:
        return
    place = held.dialect.place(held.raw)
    try:
        same = on_new_connection(
            database.url,
            held.dialect,
            lambda raw: held.dialect.place(raw) == place if place else held.dialect.holds(raw, lock, pid),
            run.settings.connect_timeout,
        )
    except NoAnswer:
        raise RunAgain(Again.UNREACHABLE, "the configured database does not answer") from None
    if same:
        return
    # A session that has ended in the meantime holds nothing either; asking on it raises what happened to it.
    held.dialect.still_locked(held.raw, lock)
    if not held.connection.in_transaction():
        held.raw.commit()
    if not (run.targets and run.settings.allow_other_targets and not database.disposable):
        raise _elsewhere(run, held, database)


def refuse_other_kind(run: Run, held: Held) -> None:
    """A SQLite file instead of the PostgreSQL that was configured: told before anything is asked of either.

    :raises ConfigurationError: ``env.py`` connects to another kind of database.
    """
    database = run.settings.database
    if database is None or (run.targets and run.settings.allow_other_targets):
        return
    if type(run.dialect_named(database.url.get_backend_name())) is not type(held.dialect):
        raise _elsewhere(run, held, database)


def refuse_foreign_version_table(run: Run, held: Held, key: LockKey) -> None:
    """Where a schema is a database, a disposable one keeps its own version table, and moves nobody else's rows.

    :raises ConfigurationError: ``env.py`` names another database for it.
    """
    database = run.settings.database
    if database is None or not database.disposable or key.schema == key.database:
        return
    if held.dialect.database_in_use(held.raw):  # as the dialects answer that can leave a database at all
        raise another_database(
            f"its version table is in the database {key.schema} (version_table_schema in env.py)",
            f"the disposable one: {urls.describe(database.url)}",
        )


def _elsewhere(run: Run, held: Held, database: ConfiguredDatabase) -> ConfigurationError:
    where = f"env.py connects to {held.session.database}"
    if not held.dialect.in_a_file:
        where += f" as {held.session.user} at {urls.address(held.engine.url)}"
    if database.disposable:
        return another_database(where, f"the disposable one: {urls.describe(database.url)}")
    details = (where, f"configured: {urls.describe(database.url)}, from {database.source}")
    if run.targets:
        return ConfigurationError(
            "env.py goes on to a second database",
            details=details,
            next_step="If that is meant, set MIGRATOR_ALLOW_OTHER_TARGETS=yes.",
        )
    return ConfigurationError(
        "env.py connects to another database than the one that was configured",
        details=details,
        next_step=(
            "Let env.py read sqlalchemy.url or DATABASE_URL, or name the variable that it does read in "
            "MIGRATOR_EXPORT_URL_AS; to use env.py's own database, unset "
            f"{database.source}. Nothing was changed."
        ),
    )


def refuse_poolers(run: Run, held: Held) -> None:
    """Behind a pooler the lock may belong to somebody else's session a moment later.

    :raises LockUnusable: there is one, unless it is known and not disproved to be in session mode.
    """
    session = held.session
    if run.reads_only or not session.pooled:
        return
    where = urls.address(held.engine.url)
    proof = _proof_of_sharing(run, held, where)
    if run.settings.pooler == "session" and proof is None:
        run.report(
            Notice("pooler", "a pooler is in between, taken for session mode (MIGRATOR_POOLER=session)")
        )
        return
    if proof is not None:
        raise pooler_refused("a transaction pooler", proof, run)
    raise pooler_refused("a connection pooler", _announced(session, where), run)


def obstacles(run: Run) -> tuple[LockUnusable, ...]:
    """What a run that changes something would refuse, as far as one that only read has seen it."""
    found = []
    for target in run.targets.values():
        if target.session.pooled and run.settings.pooler == "refuse":
            seen = _announced(target.session, target.target.address)
            found.append(pooler_refused("a connection pooler", seen, run))
        if target.session.cluster and run.settings.lock != "node":
            found.append(_cluster_refused(target.session.cluster, target.target.address))
    return tuple(found)


def _announced(session: Session, where: str) -> str:
    return f"{where} announced backend pid {session.protocol_pid}, and the server says {session.backend_pid}"


def pooler_refused(what: str, seen: str, run: Run) -> LockUnusable:
    """The error for ``what`` in between, as was ``seen``."""
    database = run.settings.database
    if database is not None and database.direct:
        next_step = (
            f"env.py does not connect to what {database.source} names ({urls.address(database.url)}): let it "
            "read sqlalchemy.url or DATABASE_URL, or name the variable that it does read in "
            "MIGRATOR_EXPORT_URL_AS."
        )
    else:
        next_step = "Give the direct address of the server as MIGRATOR_DIRECT_DATABASE_URL"
        next_step += (
            ", or set MIGRATOR_POOLER=session if the pooler is in session mode."
            if what == "a connection pooler"
            else "."
        )
    return LockUnusable(
        f"the lock cannot work here: {what} is between us and the server",
        details=(seen,),
        next_step=f"{next_step} Nothing was changed.",
    )


def refuse_clusters(run: Run, held: Held) -> None:
    """Where several nodes accept writes, a lock of one of them keeps nobody out who asks another.

    :raises LockUnusable: there are several, and it was not said that every run goes to the same one.
    """
    cluster = held.session.cluster
    if run.reads_only or not cluster:
        return
    if run.settings.lock == "node":
        run.report(Notice("lock", f"{cluster}: it holds on this node alone (MIGRATOR_LOCK=node)"))
        return
    raise _cluster_refused(cluster, urls.address(held.engine.url))


def _cluster_refused(cluster: str, where: str) -> LockUnusable:
    return LockUnusable(
        "the lock cannot work here: several nodes accept writes, and each has locks of its own",
        details=(f"{where} is a node of {cluster}",),
        next_step=(
            "Let every run connect to the same node (not to a load balancer over all of them), and say so with "
            "MIGRATOR_LOCK=node. Nothing was changed."
        ),
    )


def _proof_of_sharing(run: Run, held: Held, where: str) -> str | None:
    """What proves that the server's connections are shared out anew for each transaction; None: nothing does.

    A pooler in session mode serves a client by one backend and nobody else by that. Not to see the contrary
    proves nothing: one with spare backends may hand out the last that became free, or each in its turn. So
    both kinds of proof are looked for, and several times.
    """
    if held.began_outside:
        return None
    first = held.session.backend_pid
    held.raw.commit()
    for _ in range(PROBES):
        mine = held.dialect.session(held.raw).backend_pid
        held.raw.commit()
        if mine != first:
            return f"one connection to {where} was served by two backends in turn (pids {first} and {mine})"
        try:
            other = on_connection_like(
                held.engine,
                lambda raw: held.dialect.session(raw).backend_pid,
                run.settings.connect_timeout,
            )
        except Exception:
            return None
        if other == first:
            return f"two connections to {where} were served by the same backend (pid {first})"
    return None
