"""One look at the version table without ``env.py``: a single short connection, and a few statements on it."""

from __future__ import annotations

import time
from typing import Protocol

from migrator import urls
from migrator.configured import ConfiguredDatabase
from migrator.database import target_of
from migrator.declared import Declared, declared
from migrator.dialects import ErrorKind, LockKey, RawConnection, ServerFacts, dialect_named
from migrator.errors import AccessRefused, MigratorError
from migrator.events import DatabaseReady, Reporter, TargetKnown
from migrator.readiness import NotYet, ask
from migrator.results import Pending, Revisions, Status, TargetStatus
from migrator.revisions import ProblemKind, history_error, shown_path
from migrator.settings import Settings
from migrator.truth import Truth, truth_on

_PASSING = (
    ErrorKind.LOCK_TIMEOUT,
    ErrorKind.STATEMENT_TIMEOUT,
    ErrorKind.DEADLOCK,
    ErrorKind.SERIALIZATION,
    ErrorKind.NO_TABLE,
)
"""What a poll meets while a migration changes the version table itself."""

_OF_A_POLL = 0.5
"""How much of a poll's time a lock may take: what was given up here must not stay behind on the server."""


class Look(Protocol):
    """A way to see where the database stands."""

    def read(self, *, holder: bool) -> Status:
        """Ask the database once.

        :param holder: also who holds the run lock; that is told in any case where nothing is pending.
        :raises NotYet: it could not be asked now.
        :raises EnvironmentNeeded: the files do not say where to look.
        :raises MigratorError: to go on asking would be in vain.
        """


class EnvironmentNeeded(Exception):
    """The database has a table of the version table's name elsewhere: only ``env.py`` knows which is meant."""


class DirectLook:
    """A :class:`Look` from the configured URL at the version table that the project's files declare."""

    def __init__(
        self, settings: Settings, database: ConfiguredDatabase, project: Declared, report: Reporter
    ) -> None:
        self._settings = settings
        self._database = database
        self._project = project
        self._report = report
        self._dialect = dialect_named(database.url.get_backend_name())
        self._begun = time.monotonic()
        self._facts: ServerFacts | None = None
        self._target_told = self._ready_told = self._sure = False
        self._tries = 0
        self._reason = ""

    @classmethod
    def of(cls, settings: Settings, report: Reporter) -> DirectLook | None:
        """None: the project is not plain enough.

        :raises HistoryError: a missing parent, a duplicate id, a cycle.
        :raises ConfigurationError: the URL cannot work.
        """
        project, database = declared(settings), settings.database
        if project is None or database is None:
            return None
        for problem in project.graph.problems():
            if problem.kind not in (ProblemKind.NO_REVISIONS, ProblemKind.SEVERAL_HEADS):
                raise history_error(problem)
        look = cls(settings, database, project, report)
        look._dialect.refuse_url(database.url, database.source)
        urls.require_driver(urls.sync_url(database.url), database.source)
        return look

    def read(self, *, holder: bool) -> Status:
        self._tries += 1
        database = self._settings.database or self._database
        try:
            status = ask(
                self._settings,
                database.url,
                self._dialect,
                database.source,
                self._begun,
                lambda raw: self._status_if_sure(raw, holder),
            )
        except NotYet as error:
            self._reason = error.reason
            self._tell_target()
            raise
        except MigratorError:
            self._tell_target()
            raise
        self._tell_target()
        if status is None:
            raise EnvironmentNeeded
        if not self._ready_told:
            self._ready_told = True
            self._report(DatabaseReady(time.monotonic() - self._begun, self._tries, self._reason))
        return status

    def _tell_target(self) -> None:
        if not self._target_told:
            self._target_told = True
            self._report(TargetKnown(target_of(self._database, self._dialect, self._facts)))

    def _status_if_sure(self, raw: RawConnection, holder: bool) -> Status | None:
        # What is raised on the connection and comes from no driver would be taken for a mistake in the URL.
        try:
            return self._status(raw, holder)
        except EnvironmentNeeded:
            return None

    def _status(self, raw: RawConnection, holder: bool) -> Status:
        dialect, graph = self._dialect, self._project.graph
        self._facts = self._facts or dialect.facts(raw)
        dialect.limit_waiting(raw, self._settings.connect_timeout * _OF_A_POLL)
        found, rows = self._version(raw)
        unknown = tuple(row for row in rows if row not in graph.files)
        have = graph.ancestors(rows)
        pending = tuple(
            Pending(one.revision, one.message, shown_path(one.path))
            for one in graph.files.values()
            if one.revision not in have
        )
        truth = Truth(rows, found is not None, 0, (), None)
        if holder or unknown or not pending:
            schema, table = found or (self._project.schema or dialect.session(raw).schema, "")
            key = LockKey(self._facts.database, schema, table or self._project.version_table)
            truth = truth_on(raw, dialect, key)
        schema, table = found or (self._project.schema or "", self._project.version_table)
        return Status(
            (
                TargetStatus(
                    target=target_of(
                        self._database,
                        dialect,
                        self._facts,
                        version_table=f"{schema}.{table}" if schema else table,
                    ),
                    current=rows,
                    heads=tuple(sorted(graph.heads)),
                    # Of a database that is ahead nobody can tell from here.
                    pending=() if unknown else pending,
                    unknown=unknown,
                    version_table_exists=found is not None,
                    tables=truth.tables,
                    lock_holder=truth.holder,
                    invalid_indexes=truth.invalid_indexes,
                ),
            )
        )

    def _version(self, raw: RawConnection) -> tuple[tuple[str, str] | None, Revisions]:
        """(schema, table) and the rows; no table, no rows."""
        project, dialect = self._project, self._dialect
        found: tuple[str, str] | None = None
        try:
            found = dialect.version_table(raw, project.version_table, project.schema)
            rows = dialect.version_rows(raw, *found) if found is not None else ()
        except Exception as error:
            said = dialect.read_error(error)
            if said is not None and said.kind in _PASSING:
                raise NotYet(str(said)) from error
            if said is not None and said.kind is ErrorKind.DENIED:
                raw.rollback()
                schema, table = found or (project.schema or "", project.version_table)
                raise self._refused(raw, schema, table, str(said)) from error
            raise
        if not self._sure:
            self._look_elsewhere(raw, found)
            self._sure = found is not None
        return found, rows

    def _look_elsewhere(self, raw: RawConnection, found: tuple[str, str] | None) -> None:
        table = self._project.version_table
        others = self._dialect.tables_elsewhere(raw, table, found[0] if found else "")
        if found is None:
            for other in others:
                if other.expected and not other.readable:
                    raise self._refused(
                        raw, other.schema, table, f"no right to use the schema {other.schema}"
                    )
        if any(other.readable for other in others):
            raise EnvironmentNeeded

    def _refused(self, raw: RawConnection, schema: str, table: str, why: str) -> MigratorError | NotYet:
        if time.monotonic() - self._begun < self._settings.auth_grace:
            return NotYet(why)
        user = self._facts.user if self._facts else ""
        return AccessRefused(
            f"{user} may not read the version table {schema}.{table}",
            details=(why,),
            next_step=(
                f"Let somebody who may run: {self._dialect.grants_to_read(raw, schema, table)} "
                "wait --for head needs no other right. Nothing was changed."
            ),
        )
