"""What PostgreSQL's errors mean for a run, whichever driver raised them."""

from __future__ import annotations

import os
import re
import traceback
from typing import Any

from migrator.dialects import ErrorKind, ServerError
from migrator.dialects.unwrapped import driver_error

# Appendix A of the manual, "PostgreSQL Error Codes".
_BY_SQLSTATE = {
    "55P03": ErrorKind.LOCK_TIMEOUT,
    "40P01": ErrorKind.DEADLOCK,
    "40001": ErrorKind.SERIALIZATION,
    "57P01": ErrorKind.CONNECTION_LOST,
    "57P02": ErrorKind.CONNECTION_LOST,
    "57P03": ErrorKind.NOT_READY,
    "57P05": ErrorKind.CONNECTION_LOST,
    "25P03": ErrorKind.CONNECTION_LOST,
    "53300": ErrorKind.TOO_MANY_CONNECTIONS,
    "25006": ErrorKind.READ_ONLY,
    "53100": ErrorKind.DISK_FULL,
    "57014": ErrorKind.CANCELLED,
    "42501": ErrorKind.DENIED,
    "3D000": ErrorKind.REFUSED,
    "42P06": ErrorKind.ALREADY_EXISTS,
    "42P07": ErrorKind.ALREADY_EXISTS,
    "42701": ErrorKind.ALREADY_EXISTS,
    "42710": ErrorKind.ALREADY_EXISTS,
    "23502": ErrorKind.NULL_VALUE,
    "23503": ErrorKind.FOREIGN_KEY,
    "23505": ErrorKind.DUPLICATE_KEY,
    "23514": ErrorKind.CHECK_VIOLATED,
    "25001": ErrorKind.NEEDS_NO_TRANSACTION,
    "25P02": ErrorKind.TRANSACTION_ABORTED,
    "42601": ErrorKind.SYNTAX,
    "42703": ErrorKind.NO_COLUMN,
    "42P01": ErrorKind.NO_TABLE,
    "53200": ErrorKind.TOO_MANY_LOCKS,
}
_BY_CLASS = {"08": ErrorKind.CONNECTION_LOST, "28": ErrorKind.REFUSED}

# psycopg2 gives no SQLSTATE for an error while connecting; these are libpq's and the server's own words.
_REFUSED_WORDS = (
    "password authentication failed",
    "no password supplied",
    "authentication failed",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "is not permitted to log in",
    "unsupported sslmode",
    "invalid sslmode",
    "permission denied for database",
    "wrong password type",
)
# libpq's, asyncpg's and OpenSSL's; the first that fits: OpenSSL says "verify failed" of a host name, too.
_TLS_WORDS = (
    ("certificate file", ErrorKind.TLS_FILE),
    ("private key file", ErrorKind.TLS_FILE),
    ("does not match host name", ErrorKind.TLS_HOST),
    ("certificate is not valid for", ErrorKind.TLS_HOST),
    ("certificate verify failed", ErrorKind.TLS_UNTRUSTED),
    ("server does not support SSL", ErrorKind.TLS_MISSING),
    ("rejected SSL upgrade", ErrorKind.TLS_MISSING),
)
_WHERE = re.compile(r"\A(?:connection failed: )?connection to server .*? failed: (?=.)", re.DOTALL)
_LOST_WORDS = (
    # psycopg 3, of a pooler that sends why its server has gone as a second answer.
    "results from command",
    "server closed the connection unexpectedly",
    "connection already closed",
    # "the connection is closed" of psycopg 3, "the underlying connection is closed" of asyncpg
    "connection is closed",
    "connection was closed",
    # asyncpg has read why the server ends the session (its state 2), and not yet that it did.
    "another operation (2) is in progress",
    "terminating connection",
    "SSL connection has been closed",
    "SSL SYSCALL error",
    "connection to server was lost",
    "could not receive data from server",
    "could not send data to server",
    "connection is lost",
    "consuming input failed",
)
_CROWDED_WORDS = (
    "too many clients",
    "too many connections",
    "connection slots are reserved",
    # PgBouncer's, for all clients together; it waits by itself where only the server is full.
    "no more connections allowed",
)
_POOLER_WORDS = "transaction blocks not allowed in statement pooling mode"
_DRIVERS = ("psycopg2", "psycopg", "asyncpg", "sqlalchemy.dialects.postgresql")


def read_error(error: BaseException) -> ServerError | None:
    """See :meth:`migrator.dialects.Dialect.read_error`."""
    found = _driver_error(error)
    if found is None:
        return _undecodable(error) or _unreachable(error)
    found = _first_of_the_loss(error, found)
    diagnostics = getattr(found, "diag", None)
    sqlstate = str(getattr(found, "sqlstate", None) or getattr(found, "pgcode", None) or "")
    message = getattr(diagnostics, "message_primary", None) or _first_line(found)
    kind = _kind(sqlstate, str(message), str(found), diagnostics)
    if kind.about_tls:
        message = _WHERE.sub("", str(message))
    if getattr(error, "connection_invalidated", False) and kind is ErrorKind.OTHER:
        kind = ErrorKind.CONNECTION_LOST
    return ServerError(kind, str(message), sqlstate, _further(diagnostics))


def _unreachable(error: BaseException) -> ServerError | None:
    """Asyncpg lets the system's own error through where it cannot connect; whose it is, the traceback tells."""
    if not isinstance(error, OSError):
        return None
    frames = traceback.walk_tb(error.__traceback__)
    theirs = [frame for frame, _ in frames if str(frame.f_globals.get("__name__")).startswith("asyncpg.")]
    if not theirs:
        return None
    said = " ".join(str(error).split()) or "nothing was answered"
    kind = _tls_kind(said) or ErrorKind.NOT_READY
    if theirs[-1].f_code.co_name == "_parse_connect_dsn_and_args":
        # Nothing has been connected to yet: what it opens there are the files for TLS.
        return ServerError(ErrorKind.TLS_FILE, f"{_tls_file(error)}: {said}")
    return ServerError(kind, said)


def _tls_file(error: OSError) -> str:
    """The first of the files for TLS that cannot be opened; asyncpg takes them from libpq's variables, too.

    Without any of them it looks into the home directory, as libpq does.
    """
    for variable in ("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"):
        path = os.environ.get(variable)
        if path:
            try:
                open(path, "rb").close()
            except OSError:
                return f'{variable}, certificate file "{path}"'
    path = os.environ.get("PGSSLROOTCERT")
    if path:
        return f'PGSSLROOTCERT, certificate file "{path}"'
    return f'certificate file "{error.filename}"' if error.filename else "the certificate file"


def _undecodable(error: BaseException) -> ServerError | None:
    """Of a CA file that may not be read, libpq 18 says what psycopg2 cannot decode: half a sentence, and noise."""
    if not isinstance(error, UnicodeDecodeError):
        return None
    said = error.object.decode(errors="replace")
    kind = _tls_kind(said)
    return kind and ServerError(kind, _WHERE.sub("", said.rpartition(":")[0]))


def _tls_kind(words: str) -> ErrorKind | None:
    return next((kind for said, kind in _TLS_WORDS if said in words), None)


def _driver_error(error: BaseException) -> BaseException | None:
    return driver_error(error, lambda one: type(one).__module__.startswith(_DRIVERS))


def _first_of_the_loss(error: BaseException, last: BaseException) -> BaseException:
    """The driver's error that came first, where ``last`` is only about a connection that was closed already.

    Leaving ``autocommit_block()`` on a connection that broke raises a second error, which says less.
    """
    current = error.__context__ or last.__context__
    seen: set[int] = set()
    while _closed_already(last) and current is not None and id(current) not in seen:
        seen.add(id(current))
        last = _driver_error(current) or last
        current = current.__context__
    return last


def _closed_already(error: BaseException) -> bool:
    return any(words in str(error) for words in ("connection already closed", "connection is closed"))


def _kind(sqlstate: str, message: str, whole: str, diagnostics: Any) -> ErrorKind:
    if _POOLER_WORDS in whole:
        return ErrorKind.POOLER
    if any(words in whole for words in _CROWDED_WORDS):
        return ErrorKind.TOO_MANY_CONNECTIONS
    if sqlstate == "08P01" and any(words in whole for words in _REFUSED_WORDS):
        return ErrorKind.REFUSED  # PgBouncer has one code for whatever it says itself.
    if sqlstate:
        if sqlstate == "23505" and _is_catalog(diagnostics, whole):
            return ErrorKind.CATALOG_RACE
        if sqlstate == "XX000" and "concurrently" in message:
            return ErrorKind.CATALOG_RACE
        if sqlstate == "57014" and "user request" not in message:
            return ErrorKind.STATEMENT_TIMEOUT
        if sqlstate == "42601" and "multiple commands into a prepared statement" in message:
            return ErrorKind.SEVERAL_STATEMENTS
        found = _BY_SQLSTATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2])
        if found is not None:
            return found
        return ErrorKind.OTHER
    if tls := _tls_kind(whole):
        return tls
    if "cached statement plan is invalid" in whole:
        return ErrorKind.CACHED_PLAN
    if any(words in whole for words in _REFUSED_WORDS):
        return ErrorKind.REFUSED
    if ("role" in whole or "database" in whole) and "does not exist" in whole:
        return ErrorKind.REFUSED
    if any(words in whole for words in _LOST_WORDS):
        return ErrorKind.CONNECTION_LOST
    if (
        "connection" in whole
        or "timeout" in whole
        or "translate host name" in whole
        or "resolve host" in whole
    ):
        return ErrorKind.NOT_READY
    return ErrorKind.OTHER


def _is_catalog(diagnostics: Any, whole: str) -> bool:
    schema = getattr(diagnostics, "schema_name", None)
    return schema == "pg_catalog" or 'constraint "pg_' in whole


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # libpq begins with where it connected to; the reason is what comes after "FATAL:".
    for line in lines:
        if "FATAL:" in line:
            return line.split("FATAL:", 1)[1].strip()
    return lines[0] if lines else type(error).__name__


def _further(diagnostics: Any) -> tuple[str, ...]:
    """Detail and hint; not the detail that quotes a whole row of somebody's data."""
    further = []
    detail = getattr(diagnostics, "message_detail", None)
    if detail and not str(detail).startswith("Failing row contains"):
        further.extend(str(detail).splitlines())
    hint = getattr(diagnostics, "message_hint", None)
    if hint:
        further.append(f"hint: {hint}")
    return tuple(further)
