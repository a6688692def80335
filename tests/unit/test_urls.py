"""Database URLs: what is accepted, what is refused without showing the password, and which driver it gets."""

from __future__ import annotations

import subprocess
import sys
import traceback

import pytest
from sqlalchemy.engine import URL, make_url

from migrator import urls
from migrator.errors import ConfigurationError
from tests.harness import REPOSITORY

SOURCE = "MIGRATOR_DATABASE_URL"


@pytest.mark.parametrize(
    ("text", "description"),
    [
        ("postgresql://shop_owner:pw@db.internal:5432/shop", "db.internal:5432/shop as shop_owner"),
        ("  postgresql://shop_owner:pw@db.internal/shop\n", "db.internal:5432/shop as shop_owner"),
        ("postgres://u:pw@db:5433/shop", "db:5433/shop as u"),
        ("postgresql+asyncpg://u:pw@[2001:db8::7]:5432/shop", "[2001:db8::7]:5432/shop as u"),
        ("postgresql://u:pw@10.0.0.7/shop", "10.0.0.7:5432/shop as u"),
        (
            "postgresql://u:pw@shop_db-1.svc.cluster.local./shop",
            "shop_db-1.svc.cluster.local.:5432/shop as u",
        ),
        ("postgresql://u:pw@bücher/shop", "bücher:5432/shop as u"),
        ("postgresql://u:pw@db", "db:5432 as u"),
        ("postgresql://db/shop", "db:5432/shop"),
        ("postgresql:///shop", "local socket/shop"),
        ("postgresql://", "local socket"),
        ("postgresql:///shop?host=/var/run/postgresql", "/var/run/postgresql/shop"),
        ("postgresql://u:@/shop?host=/tmp/sockets&port=5433", "/tmp/sockets/shop as u"),
        ("postgresql:///?service=shop", "service shop"),
        ("postgresql://u:pw@one:5432,two:5433/shop", "one:5432,two:5433/shop as u"),
        ("postgresql://u:pw@one:5433,two/shop?target_session_attrs=primary", "one:5433,two:5432/shop as u"),
        ("postgresql://u:pw@[::1]:5433,two/shop", "[::1]:5433,two:5432/shop as u"),
        ("postgresql://u:pw@one,two/shop", "one:5432,two:5432/shop as u"),
        ("postgresql://u:pw@/shop?host=one:5432&host=two:5433", "one:5432,two:5433/shop as u"),
        ("postgresql://u:pw@/shop?host=one,two&port=5432,5433", "one:5432,two:5433/shop as u"),
        ("postgresql://owner@shop:pw@shop.azure.example/shop", "shop.azure.example:5432/shop as owner@shop"),
        ("postgresql://u:p/w:x#y?z@db/shop", "db:5432/shop as u"),
        ("mysql+pymysql://u:pw@db/shop", "db:3306/shop as u"),
        ("mariadb://u:pw@db:3307/shop", "db:3307/shop as u"),
        ("mysql://u:pw@/shop?unix_socket=/run/mysqld.sock", "/run/mysqld.sock/shop as u"),
        ("sqlite:///shop@home.db", "shop@home.db"),
        ("sqlite:////var/lib/shop.db", "/var/lib/shop.db"),
        ("sqlite://", ":memory:"),
        ("cockroachdb://u:pw@db:26257/shop", "db:26257/shop as u"),
        ("oracle+oracledb://u:pw@db/?service_name=shop", "db as u"),
    ],
)
def test_a_url_is_read_and_described_without_its_password(text: str, description: str) -> None:
    url = urls.parse(text, SOURCE)
    assert urls.describe(url) == description
    assert "pw" not in urls.redacted(url)


def test_the_address_alone_names_neither_database_nor_user() -> None:
    assert urls.address(urls.parse("postgresql://u:pw@db/shop", SOURCE)) == "db:5432"
    assert urls.address(urls.parse("sqlite:///shop.db", SOURCE)) == "shop.db"


def test_postgres_becomes_postgresql_with_and_without_a_driver() -> None:
    assert urls.parse("postgres://db/shop", SOURCE).drivername == "postgresql"
    assert urls.parse("postgres+asyncpg://db/shop", SOURCE).drivername == "postgresql+asyncpg"


def test_an_encoded_password_arrives_decoded() -> None:
    assert urls.parse("postgresql://u:p%40s%25s%2Fw%3A@db/shop", SOURCE).password == "p@s%s/w:"


def test_several_hosts_with_ports_become_what_sqlalchemy_hands_to_libpq() -> None:
    url = urls.parse("postgresql+psycopg2://u:pw@one:5432,two/shop?target_session_attrs=primary", SOURCE)
    (), connect = url.get_dialect()().create_connect_args(url)
    assert connect == {
        "host": "one,two",
        "port": "5432,5432",
        "user": "u",
        "password": "pw",
        "dbname": "shop",
        "target_session_attrs": "primary",
    }


def test_passwords_among_the_query_parameters_are_not_shown() -> None:
    url = urls.parse("postgresql://db/shop?user=u&password=s3cret&sslpassword=s3cret", SOURCE)
    assert urls.redacted(url) == "postgresql://db/shop?password=***&sslpassword=***&user=u"


ENCODE = "%40"
NUMBER = "number"
HOST = "host"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("s3cret", "not a database URL"),
        ("host=db password=s3cret", "not a database URL"),
        ("jdbc:postgresql://u:s3cret@db/shop", "jdbc:"),
        ("postgresql:/u:s3cret@db/shop", "not a database URL"),
        ("'postgresql://u:s3cret@db/shop'", "quotes"),
        ('"postgresql://u:s3cret@db/shop', "quotes"),
        ("postgresql://u:s3cret@db/shop\npostgresql://u:s3cret@db/shop", "line break"),
        ("postgresql://u:***@db/shop", "render_as_string(hide_password=False)"),
        ("postgresql://u:s3@cret@db/shop", ENCODE),
        ("postgresql://u:s3@cr/et@db/shop", ENCODE),
        ("postgresql://u:s3@cr:et@db/shop", ENCODE),
        ("postgresql://u:s3@cr#et@db/shop", ENCODE),
        ("postgresql://us/er:s3cret@db/shop", ENCODE),
        ("postgresql://u:s3@cret@one:1,two:2/shop", ENCODE),
        ("mysql://u:s3@cret@db/shop", ENCODE),
        ("postgresql://u:pw@s3cret#x/shop", ENCODE),
        ("postgresql://u:s3cret/shop", NUMBER),
        ("postgresql://u:pw@db:s3cret/shop", NUMBER),
        ("postgresql://u:s3cret@db:/shop", NUMBER),
        ("postgresql://u:s3cret@db:0/shop", NUMBER),
        ("postgresql://u:s3cret@db:65536/shop", NUMBER),
        ("postgresql://u:s3cret@db:-1/shop", NUMBER),
        ("postgresql://u:s3cret@one:5432,two:x/shop", NUMBER),
        ("postgresql://u:s3cret@db/shop?port=x", NUMBER),
        ("cockroachdb://u:s3cret@db:x/shop", NUMBER),
        ("postgresql://u:s3cret@[bad/shop", HOST),
        ("postgresql://u:s3cret@[::zz]/shop", HOST),
        ("postgresql://u:s3cret@d b/shop", HOST),
        ("postgresql://u:s3cret@${DB_HOST}/shop", HOST),
        ("postgresql://u:s3cret@-db/shop", HOST),
        ("postgresql://u:s3cret@one,,two/shop", HOST),
        ("postgresql://u:s3cret@/shop?host=a b", HOST),
        ("postgresql://u:s3cret@%2Fvar%2Frun/shop", "?host=/socket/directory"),
        ("sqlite://s3cret.db", "three slashes"),
    ],
)
def test_a_malformed_url_is_refused_without_showing_any_of_it(text: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        urls.parse(text, SOURCE)
    error = raised.value
    told = " ".join((error.message, *error.details, error.next_step))
    assert SOURCE in error.message
    assert word in told
    assert error.next_step
    for shown in (told, "".join(traceback.format_exception(error)).partition("Error:")[2]):
        assert not any(part in shown for part in ("s3", "cret", "pw"))
    assert error.__cause__ is error.__context__ is None


@pytest.mark.parametrize("name", ["postgresql+nosuch", "mysql+nosuch", "sqlite+nosuch"])
def test_an_unknown_driver_is_refused_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no database driver") as raised:
        urls.require_driver(make_url(f"{name}://u:s3cret@db/shop"), SOURCE)
    assert name in raised.value.message
    assert SOURCE in raised.value.message
    known = raised.value.details[0]
    backend = name.partition("+")[0]
    assert [driver for driver in urls.DRIVERS if driver.partition("+")[0] == backend] == known.removeprefix(
        "known: "
    ).split(", ")


def test_a_database_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no database driver redis"):
        urls.require_driver(make_url("redis://u:s3cret@db/0"), SOURCE)


def test_another_database_that_sqlalchemy_knows_passes() -> None:
    urls.require_driver(make_url("oracle+oracledb://u:pw@db/shop"), SOURCE)


@pytest.mark.parametrize(
    ("name", "modules", "command"),
    [
        ("postgresql+psycopg", ["psycopg"], 'pip install "migrator[psycopg]"'),
        ("postgresql+asyncpg", ["asyncpg"], 'pip install "migrator[asyncpg]"'),
        ("mysql+pymysql", ["pymysql"], 'pip install "migrator[mysql]"'),
        ("mysql", ["MySQLdb", "pymysql"], 'pip install "migrator[mysql]"'),
        ("postgresql+psycopg2", ["psycopg2"], "pip install psycopg2-binary"),
        ("postgresql", ["psycopg2", "psycopg"], "pip install psycopg2-binary"),
        ("postgresql+pg8000", ["pg8000"], "pip install pg8000"),
    ],
)
def test_a_driver_that_is_not_installed_is_named_with_what_to_install(
    name: str, modules: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match="not installed") as raised:
        urls.require_driver(make_url(f"{name}://u:s3cret@db/shop"), SOURCE)
    assert SOURCE in raised.value.message
    assert all(module in raised.value.details[0] for module in modules)
    assert raised.value.next_step == command


def test_an_installed_driver_passes() -> None:
    for name in ("postgresql", "postgresql+psycopg2", "sqlite", "sqlite+pysqlite"):
        urls.require_driver(make_url(f"{name}://"), SOURCE)


@pytest.mark.parametrize("backend", ["postgresql", "mysql", "mariadb", "sqlite"])
def test_every_synchronous_substitute_is_a_known_synchronous_driver(backend: str) -> None:
    for name, driver in urls.DRIVERS.items():
        if name.startswith(backend) and driver.synchronous:
            assert urls.DRIVERS[f"{backend}+{driver.synchronous}"].synchronous is None


def test_every_known_driver_is_one_that_sqlalchemy_has() -> None:
    for name in urls.DRIVERS:
        assert make_url(f"{name}://").get_dialect().name in ("postgresql", "mysql", "mariadb", "sqlite")


@pytest.mark.parametrize(
    ("name", "missing", "chosen"),
    [
        ("postgresql", (), "postgresql+psycopg2"),
        ("postgresql", ("psycopg2",), "postgresql+psycopg"),
        ("postgresql", ("psycopg2", "psycopg"), "postgresql+psycopg2"),
        ("postgresql+psycopg2", (), "postgresql+psycopg2"),
        ("postgresql+psycopg2", ("psycopg2",), "postgresql+psycopg"),
        ("postgresql+psycopg", (), "postgresql+psycopg"),
        ("postgresql+psycopg", ("psycopg",), "postgresql+psycopg2"),
        ("postgresql+psycopg_async", (), "postgresql+psycopg"),
        ("postgresql+asyncpg", (), "postgresql+psycopg2"),
        ("postgresql+asyncpg", ("psycopg2",), "postgresql+psycopg"),
        ("postgresql+pg8000", ("pg8000",), "postgresql+psycopg2"),
        ("mysql", ("MySQLdb", "pymysql"), "mysql+mysqldb"),
        ("mysql+aiomysql", ("MySQLdb", "pymysql"), "mysql+pymysql"),
        ("mariadb+asyncmy", ("MySQLdb", "pymysql"), "mariadb+pymysql"),
        ("sqlite+aiosqlite", (), "sqlite+pysqlite"),
        ("sqlite", (), "sqlite"),
        ("cockroachdb", (), "cockroachdb"),
    ],
)
def test_our_own_connections_get_an_installed_synchronous_driver(
    name: str, missing: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {"psycopg2", "psycopg"} & set(urls.DRIVERS[chosen].modules if chosen in urls.DRIVERS else ())
    for module in needed - set(missing):
        pytest.importorskip(module)
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    url = make_url(f"{name}://u:pw@db:1/shop")
    assert urls.sync_url(url) == url.set(drivername=chosen)


@pytest.mark.parametrize(
    ("given", "translated"),
    [
        ({"ssl": "verify-full"}, {"sslmode": "verify-full"}),
        ({"ssl": "true"}, {"sslmode": "require"}),
        ({"ssl": "require", "sslmode": "verify-ca"}, {"sslmode": "verify-ca"}),
        ({"prepared_statement_cache_size": "0", "command_timeout": "5"}, {}),
        ({"target_session_attrs": "primary"}, {"target_session_attrs": "primary"}),
    ],
)
def test_the_options_of_asyncpg_are_translated_for_libpq(
    given: dict[str, str], translated: dict[str, str]
) -> None:
    url = URL.create("postgresql+asyncpg", "u", "pw", "db", 5432, "shop", given)
    assert dict(urls.sync_url(url).query) == translated


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


LOADING = """
import sys
for module in {missing!r}:
    sys.modules[module] = None
from sqlalchemy import create_engine
from migrator.urls import teach_sqlalchemy_bare_scheme
teach_sqlalchemy_bare_scheme()
teach_sqlalchemy_bare_scheme()
print(*(create_engine(f"{{scheme}}://db/shop").dialect.driver for scheme in {schemes!r}))
"""


@pytest.mark.parametrize(
    ("installed", "missing"),
    [("psycopg2", ["psycopg"]), ("psycopg", ["psycopg2"])],
    ids=["psycopg2", "psycopg"],
)
def test_a_bare_url_loads_the_one_driver_that_is_installed(installed: str, missing: list[str]) -> None:
    pytest.importorskip(installed)
    schemes = ["postgresql", "postgres", f"postgres+{installed}"]
    script = LOADING.format(missing=missing, schemes=schemes)
    done = run(script)
    assert (done.stdout.split(), done.stderr) == ([installed] * 3, "")


def test_with_both_drivers_a_bare_url_stays_as_sqlalchemy_has_it() -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("psycopg2")
    script = (
        "from sqlalchemy import create_engine\nprint(create_engine('postgresql://db').dialect.driver, end=' ')\n"
        + LOADING.format(missing=[], schemes=["postgresql", "postgres"])
    )
    done = run(script)
    untaught, *taught = done.stdout.split()
    assert taught == [untaught, untaught]


def test_no_driver_is_imported_to_find_out_whether_it_is_installed() -> None:
    script = (
        "import sys\nfrom sqlalchemy.engine import make_url\nfrom migrator import urls\n"
        "url = urls.parse('postgresql+asyncpg://u:pw@db/shop', 'x')\n"
        "urls.require_driver(urls.sync_url(url), 'x')\n"
        "print(sorted({'psycopg2', 'psycopg', 'asyncpg'} & set(sys.modules)))"
    )
    done = run(script)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
