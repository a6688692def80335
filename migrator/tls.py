"""What to say where TLS is what stands between us and the server: whose certificate, which file, what next."""

from __future__ import annotations

import os
import re
from pathlib import Path

from migrator.dialects import ErrorKind, ServerError
from migrator.errors import AccessRefused, ConfigurationError, MigratorError

_FILE = re.compile(r'(?:file|list) "([^"]+)"')
_NAMING = ("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL")
_HEADLINES = {
    ErrorKind.TLS_FILE: "a certificate file for TLS cannot be used",
    ErrorKind.TLS_HOST: "the server's certificate is for another host name",
    ErrorKind.TLS_UNTRUSTED: "the server's certificate is not trusted",
    ErrorKind.TLS_MISSING: "the server offers no TLS, and TLS was required",
}


def tls_error(found: ServerError, where: str, source: str, nothing: str) -> MigratorError:
    """The error for a connection that failed at TLS.

    :param where: see :func:`migrator.database.connection_error`, as for ``source``.
    :param nothing: that nothing was changed, or empty.
    """
    kind = ConfigurationError if found.kind is ErrorKind.TLS_FILE else AccessRefused
    details = [f"{where}: {found}", *found.further]
    if found.kind is ErrorKind.TLS_FILE:
        details += _state_of_file(found.message)
    return kind(_HEADLINES[found.kind], details=details, next_step=f"{_next(found, source)}{nothing}")


def _next(found: ServerError, source: str) -> str:
    match found.kind:
        case ErrorKind.TLS_FILE if _in_a_closed_home(found.message):
            return (
                f"Set HOME to a folder that user {os.geteuid()} may enter (HOME=/tmp): the driver looks there by "
                "itself. Or turn TLS off (sslmode=disable; for asyncpg ssl=disable)."
            )
        case ErrorKind.TLS_FILE:
            return (
                f"Mount the file where sslrootcert in {source} (or PGSSLROOTCERT) says, readable for user "
                f"{os.geteuid()}."
            )
        case ErrorKind.TLS_HOST:
            return (
                f"Name the host in {source} as the certificate does, or have the certificate made for that name. "
                "sslmode=verify-ca checks only who signed it."
            )
        case ErrorKind.TLS_UNTRUSTED:
            return (
                f"Give the certificate of the authority that signed the server's as sslrootcert in {source} "
                "(or PGSSLROOTCERT)."
            )
        case _:
            return (
                f"Turn TLS on at the server (ssl = on), or check that {source} names the right one; "
                "sslmode=prefer does without it."
            )


def _in_a_closed_home(message: str) -> bool:
    """Nobody named the file: a driver looks into the home directory, which is another user's."""
    found = _FILE.search(message)
    if found is None or any(os.environ.get(variable) == found[1] for variable in _NAMING):
        return False
    try:
        home = Path.home() / ".postgresql"
        Path(found[1]).stat()
    except PermissionError:
        return home in Path(found[1]).parents
    except (OSError, RuntimeError):
        pass
    return False


def _state_of_file(message: str) -> list[str]:
    """What libpq hides, which calls missing what it may not look for, and garbles what it may not read."""
    found = _FILE.search(message)
    if found is None:
        return []
    path = Path(found[1])
    try:
        path.open("rb").close()
    except PermissionError:
        return [f"user {os.geteuid()} may not read {path}"]
    except IsADirectoryError:
        return [f"{path} is a folder"]
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return [f"{path} can be read, and holds none that can be used (PEM was expected)"]
