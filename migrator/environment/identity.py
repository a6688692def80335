"""Proofs about a connection of ``env.py``: that it leads to the configured database, and to one backend."""

from __future__ import annotations

import secrets

from migrator import urls
from migrator.database import NoAnswer, on_connection_like, on_new_connection
from migrator.dialects import LockKey
from migrator.environment.state import Again, Held, Run, RunAgain
from migrator.errors import ConfigurationError, LockUnusable
from migrator.events import Notice


def prove_identity_by_probe(run: Run, held: Held, key: LockKey) -> None:
    """The same proof for a command that does not take the run lock: by a lock that nobody else asks for."""
    if run.settings.database is None or key in run.targets:
        return
    if held.dialect.place(held.raw):
        prove_identity(run, held, key, key)
        return
    probe = LockKey(key.database, key.schema, secrets.token_hex(16))
    held.dialect.try_lock(held.raw, probe)
    try:
        prove_identity(run, held, key, probe)
    finally:
        held.dialect.unlock(held.raw, probe)
        if not held.connection.in_transaction():
            held.raw.commit()


def prove_identity(run: Run, held: Held, key: LockKey, lock: LockKey) -> None:
    """What was configured is what ``env.py`` connects to: ``lock`` must be visible from the configured URL."""
    database = run.settings.database
    if database is None or key in run.targets:
        return
    place = held.dialect.place(held.raw)
    where = f"env.py connects to {held.session.database}"
    if not held.dialect.in_a_file:
        where += f" as {held.session.user} at {urls.address(held.engine.url)}"
    pid = held.session.backend_pid
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
    if run.targets and run.settings.allow_other_targets:
        return
    if run.targets:
        raise ConfigurationError(
            "env.py goes on to a second database",
            details=(where, f"configured: {urls.describe(database.url)}, from {database.source}"),
            next_step="If that is meant, set MIGRATOR_ALLOW_OTHER_TARGETS=yes.",
        )
    raise ConfigurationError(
        "env.py connects to another database than the one that was configured",
        details=(where, f"configured: {urls.describe(database.url)}, from {database.source}"),
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
    proof = _shared_backend(run, held)
    allowed = run.settings.pooler == "session"
    if allowed and proof is None:
        run.report(
            Notice("pooler", "a pooler is in between, taken for session mode (MIGRATOR_POOLER=session)")
        )
        return
    where = urls.address(held.engine.url)
    details = (
        f"two connections to {where} were served by the same backend (pid {proof})"
        if proof is not None
        else f"{where} announced backend pid {session.protocol_pid}, and the server says {session.backend_pid}"
    )
    raise LockUnusable(
        "the lock cannot work here: "
        + ("a transaction pooler" if proof is not None else "a connection pooler")
        + " is between us and the server",
        details=(details,),
        next_step=(
            "Give the direct address of the server as MIGRATOR_DIRECT_DATABASE_URL"
            + (
                "."
                if proof is not None
                else ", or set MIGRATOR_POOLER=session if the pooler is in session mode."
            )
            + " Nothing was changed."
        ),
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
    raise LockUnusable(
        "the lock cannot work here: several nodes accept writes, and each has locks of its own",
        details=(f"{urls.address(held.engine.url)} is a node of {cluster}",),
        next_step=(
            "Let every run connect to the same node (not to a load balancer over all of them), and say so with "
            "MIGRATOR_LOCK=node. Nothing was changed."
        ),
    )


def _shared_backend(run: Run, held: Held) -> int | None:
    """The pid that served two connections at once, which proves a transaction pooler; None: no proof."""
    if held.began_outside:
        return None
    first = held.dialect.facts(held.raw).backend_pid
    held.raw.commit()
    try:
        second = on_connection_like(
            held.engine,
            lambda raw: held.dialect.facts(raw).backend_pid,
            run.settings.connect_timeout,
        )
    except Exception:
        return None
    return first if first == second else None
