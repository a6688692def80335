"""Which database drivers there are, which are installed, and which one a URL gets."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from migrator.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL


@dataclass(frozen=True, slots=True)
class Driver:
    """What a SQLAlchemy driver name needs.

    :ivar modules: the modules of which one must be there.
    :ivar package: what ``pip install`` brings it with; empty if it comes with Python.
    :ivar synchronous: the driver name for our own connections, where this one is asynchronous.
    """

    modules: tuple[str, ...]
    package: str
    synchronous: str | None = None

    @property
    def installed(self) -> bool:
        """One of the modules is there; nothing is imported to find out."""
        return any(importlib.util.find_spec(module) is not None for module in self.modules)


_MYSQL: Mapping[str, Driver] = {
    "": Driver(("MySQLdb", "pymysql"), "migrator[mysql]"),
    "+mysqldb": Driver(("MySQLdb",), "mysqlclient"),
    "+pymysql": Driver(("pymysql",), "migrator[mysql]"),
    "+aiomysql": Driver(("aiomysql",), "migrator[aiomysql]", "pymysql"),
    "+asyncmy": Driver(("asyncmy",), "asyncmy", "pymysql"),
    "+mysqlconnector": Driver(("mysql",), "mysql-connector-python"),
    "+mariadbconnector": Driver(("mariadb",), "mariadb"),
    "+cymysql": Driver(("cymysql",), "cymysql"),
    "+pyodbc": Driver(("pyodbc",), "pyodbc"),
}

DRIVERS: Mapping[str, Driver] = MappingProxyType(
    {
        "postgresql": Driver(("psycopg2", "psycopg"), "psycopg2-binary"),
        "postgresql+psycopg2": Driver(("psycopg2",), "psycopg2-binary"),
        "postgresql+psycopg": Driver(("psycopg",), "migrator[psycopg]"),
        "postgresql+psycopg_async": Driver(("psycopg",), "migrator[psycopg]", "psycopg"),
        "postgresql+asyncpg": Driver(("asyncpg",), "migrator[asyncpg]", "psycopg2"),
        "postgresql+pg8000": Driver(("pg8000",), "pg8000"),
        "postgresql+psycopg2cffi": Driver(("psycopg2cffi",), "psycopg2cffi"),
        **{f"mysql{driver}": needs for driver, needs in _MYSQL.items()},
        **{f"mariadb{driver}": needs for driver, needs in _MYSQL.items()},
        "sqlite": Driver(("sqlite3",), ""),
        "sqlite+pysqlite": Driver(("sqlite3",), ""),
        "sqlite+aiosqlite": Driver(("aiosqlite",), "aiosqlite", "pysqlite"),
        "sqlite+pysqlcipher": Driver(("sqlcipher3", "pysqlcipher3"), "sqlcipher3-binary"),
    }
)
"""The drivers that are known, by SQLAlchemy's name for them."""

_PREFERRED: Mapping[str, tuple[str, ...]] = {
    "postgresql": ("psycopg2", "psycopg"),
    "mysql": ("mysqldb", "pymysql"),
    "mariadb": ("mysqldb", "pymysql"),
}
_ASYNCPG_ONLY = (
    "async_fallback",
    "command_timeout",
    "direct_tls",
    "max_cacheable_statement_size",
    "max_cached_statement_lifetime",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
    "timeout",
)


def require_driver(url: URL, source: str) -> None:
    """Check that the driver which the URL needs is known and installed. Nothing is imported for it.

    A database that is none of ours passes if SQLAlchemy has a dialect for it.

    :param source: the setting that the URL comes from, for the error message.
    :raises ConfigurationError: names the drivers that there are, or what to install.
    """
    driver = DRIVERS.get(url.drivername)
    if driver is None:
        backend = url.get_backend_name()
        if backend not in DRIVERS and _sqlalchemy_knows(url):
            return
        known = [name for name in DRIVERS if name.partition("+")[0] == backend] or list(DRIVERS)
        raise ConfigurationError(
            f"there is no database driver {url.drivername} (from {source})",
            details=(f"known: {', '.join(known)}",),
            next_step="Correct the beginning of the URL.",
        )
    if not driver.installed:
        package = f'"{driver.package}"' if "[" in driver.package else driver.package
        raise ConfigurationError(
            f"the driver for {url.drivername}:// is not installed (from {source})",
            details=(f"missing: the module {' or '.join(driver.modules)}",),
            next_step=f"pip install {package}" if package else "Use a Python that was built with sqlite3.",
        )


def _sqlalchemy_knows(url: URL) -> bool:
    from sqlalchemy.exc import NoSuchModuleError

    try:
        url.get_dialect()
    except NoSuchModuleError:
        return False
    return True


def sync_url(url: URL) -> URL:
    """The same database through a synchronous driver that is installed, for our own connections.

    Where none is installed, the URL names the one to install: :func:`require_driver` then says so.
    """
    backend, _, own = url.drivername.partition("+")
    driver = DRIVERS.get(url.drivername)
    if driver is None or (own and driver.synchronous is None and driver.installed):
        return url
    candidates = [name for name in (driver.synchronous or own, *_PREFERRED.get(backend, ())) if name]
    if not candidates:
        return url
    installed = (name for name in candidates if DRIVERS[f"{backend}+{name}"].installed)
    sync = url.set(drivername=f"{backend}+{next(installed, candidates[0])}")
    return _with_libpq_options(sync) if own == "asyncpg" else sync


def _with_libpq_options(url: URL) -> URL:
    """What ``ssl`` is for asyncpg, ``sslmode`` is for libpq; what only asyncpg understands is left out."""
    ssl = url.query.get("ssl")
    url = url.difference_update_query(("ssl", *_ASYNCPG_ONLY))
    if isinstance(ssl, str) and "sslmode" not in url.query:
        modes = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
        url = url.update_query_dict({"sslmode": modes.get(ssl.lower(), ssl)})
    return url


def teach_sqlalchemy_bare_scheme() -> None:
    """Let ``postgresql://``, ``postgres://``, ``mysql://`` and ``mariadb://`` load the driver that is installed.

    SQLAlchemy 2.0 loads psycopg2 for a bare ``postgresql://``, 2.1 psycopg 3, and neither knows
    ``postgres``; both load mysqlclient for the other two. Changes only what would fail: a bare
    ``postgresql`` where just one of the two is installed, ``postgres`` with any driver, and a bare ``mysql``
    or ``mariadb`` where there is PyMySQL alone. May be called again at any time.
    """
    from sqlalchemy.dialects import registry

    package = "sqlalchemy.dialects.postgresql"
    installed = [name for name in _PREFERRED["postgresql"] if DRIVERS[f"postgresql+{name}"].installed]
    if len(installed) == 1:
        registry.register("postgresql", f"{package}.{installed[0]}", "dialect")
        registry.register("postgres", f"{package}.{installed[0]}", "dialect")
    else:
        registry.register("postgres", package, "dialect")
    for name in ("psycopg2", "psycopg", "asyncpg", "pg8000"):
        registry.register(f"postgres.{name}", f"{package}.{name}", "dialect")
    if not DRIVERS["mysql+mysqldb"].installed and DRIVERS["mysql+pymysql"].installed:
        for name in ("mysql", "mariadb"):
            registry.register(name, "sqlalchemy.dialects.mysql.pymysql", "dialect")
