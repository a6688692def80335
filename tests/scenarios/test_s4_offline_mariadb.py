"""S4: the SQL of the history for MariaDB, written without a server and fed to its own client."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from tests.scenarios import clients
from tests.scenarios.catalogs import reflected
from tests.scenarios.shapes import TOOLS
from tests.scenarios.test_s4 import HEAD, INI
from tests.scenarios.test_s4_offline import BEFORE, Writer, ranges
from tests.servers.mariadb import MariaDBServer


@ranges
def test_mariadb_applies_what_was_written_without_a_database(
    parts: Sequence[str], mariadb_server: MariaDBServer, tmp_path: Path
) -> None:
    writer = Writer(tmp_path / "rooms", "mysql+pymysql")
    database = mariadb_server.create_database(f"rooms_{secrets.token_hex(4)}")
    for statement in BEFORE:
        database.query(statement)
    for file in writer.write(*parts):
        clients.mariadb(
            file,
            mariadb_server.host,
            mariadb_server.port,
            "root",
            mariadb_server.password,
            database.name,
        )
    assert database.revisions == [HEAD]
    writer.status(database.url)
    assert database.query("SELECT * FROM legacy") == [(1, "was here before")]
    reference = mariadb_server.create_database(f"rooms_{secrets.token_hex(4)}")
    writer.copy.variables["DEV_DATABASE_URL"] = reference.sqlalchemy_url()
    writer.copy.run(TOOLS["alembic"], *INI, "upgrade", "head")
    made = reflected(database.sqlalchemy_url())
    assert made.pop("legacy")
    assert made == reflected(reference.sqlalchemy_url())
