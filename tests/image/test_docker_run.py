"""Every block of commands in docs/docker.md does what the page says, as it stands there."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator import ExitCode
from tests.harness import REPOSITORY, Completed, Database, Role, create_role, query, wait_until, write_project
from tests.harness import table_revisions as line
from tests.image.engine import Owned, Postgres, build, docker, inspect, python_in, run
from tests.image.mirror import Authority, make_authority
from tests.readme import unfenced, written_blocks

pytestmark = pytest.mark.image

DOCUMENT = REPOSITORY / "docs" / "docker.md"
BLOCKS = written_blocks(DOCUMENT)
DOCKERFILES = ("dockerfile", "dependencies")
TESTED = {"build", "dockerignore", "token", "runner", "small"}
"""Blocks with a test of their own."""
SIMPLE = [name for name in BLOCKS if name not in {*DOCKERFILES, *TESTED}]
TLS_SERVER = (
    "install -o postgres -g postgres -m 600 /tls/server.key /tmp/server.key && "
    "install -o postgres -g postgres -m 644 /tls/server.pem /tmp/server.pem && "
    "exec docker-entrypoint.sh postgres -c fsync=off -c ssl=on "
    "-c ssl_cert_file=/tmp/server.pem -c ssl_key_file=/tmp/server.key"
)


def text_of(block: str) -> str:
    """A block without its fence."""
    return unfenced(BLOCKS[block])


def script(block: str) -> str:
    """The commands of a block, without the prompts."""
    return re.sub(r"^\$ ", "", text_of(block), flags=re.MULTILINE)


@dataclass
class Shop:
    """What the page assumes: a network, a database ``db`` with TLS, images, and a folder to be in."""

    postgres: Postgres
    images: dict[str, str]
    folder: Path
    authority: Authority
    database: Database

    def follow(self, block: str, *, check: bool = True, before: str = "") -> Completed:
        """Do in a shell what a block says, with the names of this test's network and images."""
        commands = script(block).replace("shop-net", self.postgres.network)
        for name, tag in sorted(self.images.items(), reverse=True):
            commands = re.sub(rf"{name}(?=[\s\\]|$)", tag, commands, flags=re.MULTILINE)
        return run("bash", "-euo", "pipefail", "-c", f"{before}\n{commands}", cwd=self.folder, check=check)

    @property
    def is_at_head(self) -> bool:
        """Whether the shop's two revisions were applied."""
        return (self.database.revisions, self.database.tables) == (["b2"], ["t_a1", "t_b2"])


@pytest.fixture(scope="module")
def kept() -> Iterator[Owned]:
    with Owned() as owned:
        yield owned


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls"), ["DNS:db"])


@pytest.fixture(scope="module")
def tls_postgres(kept: Owned, authority: Authority) -> Postgres:
    tls = ("--volume", f"{authority.key.parent}:/tls:ro", "--entrypoint", "sh")
    postgres = Postgres(kept, kept.network(), *tls, command=("-c", TLS_SERVER))
    create_role(postgres.server, Role("shop_owner", "open-s3same"))
    return postgres


@pytest.fixture(scope="module")
def images(runner: str, kept: Owned, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """``shop-migrate``, and the same with an asynchronous ``env.py``."""
    made = {}
    for name, env in (("shop-migrate", "sync"), ("shop-migrate-async", "async")):
        folder = tmp_path_factory.mktemp(name) / "shop"
        write_project(folder, None, env=env, revisions=line("a1", "b2"))
        (folder / "Dockerfile").write_text(text_of("dockerfile"))
        made[name] = kept.image(name)
        build(made[name], context=folder)
    return made


@pytest.fixture
def shop(
    tls_postgres: Postgres, images: dict[str, str], authority: Authority, tmp_path: Path
) -> Iterator[Shop]:
    server = tls_postgres.server
    query(server.url, "ALTER ROLE shop_owner PASSWORD 'open-s3same'")
    query(server.url, "CREATE DATABASE shop OWNER shop_owner")
    shutil.copy(authority.ca, tmp_path / "ca.pem")
    # For the blocks that go on where another has begun.
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "database-url").write_text("postgresql://shop_owner:open-s3same@db:5432/shop")
    tmp_path.chmod(0o755)
    yield Shop(tls_postgres, images, tmp_path, authority, Database(server, "shop"))
    query(server.url, "DROP DATABASE shop WITH (FORCE)")


@pytest.mark.parametrize("block", SIMPLE)
def test_the_commands_of_the_page_work_as_they_stand_there(shop: Shop, block: str) -> None:
    done = shop.follow(block)
    assert "verified" in done.stderr
    assert "open-s3same" not in done.output
    assert shop.is_at_head


def test_no_block_of_commands_is_left_untested() -> None:
    marked = "".join(BLOCKS.values())
    unmarked = [
        fence
        for fence in re.findall(r"```console\n.*?```", DOCUMENT.read_text(), re.DOTALL)
        if fence not in marked and "buildx" not in fence
    ]
    assert unmarked == []
    assert {"one-line", "env-file", "secret-file", "ca", "ca-variables", "pgpass", "hardened"} <= set(SIMPLE)


def test_the_image_of_an_application_is_built_as_the_page_says(
    runner: str, kept: Owned, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    write_project(folder, None, revisions=line("a1", "b2"))
    (folder / "Dockerfile").write_text(text_of("dockerfile"))
    tag = kept.image("built")
    commands = script("build").replace("https://git.example.com/migrator.git", str(REPOSITORY))
    run("bash", "-euo", "pipefail", "-c", commands.replace("shop-migrate", tag), cwd=folder)
    assert python_in(tag, "import os; print(sorted(os.listdir('.')))") == "['alembic.ini', 'migrations']"


def test_what_the_ignore_file_of_the_page_does_not_name_stays_out_of_an_image(
    runner: str, kept: Owned, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    write_project(folder, None, revisions=line("a1"))
    (folder / ".dockerignore").write_text(text_of("dockerignore"))
    for name in ("requirements.txt", ".env", "migrations/.env.prod", "dump.sql"):
        (folder / name).write_text("")
    (folder / "Dockerfile").write_text("FROM migrator:runner\nCOPY . /app/\n")
    tag = kept.image("ignoring")
    build(tag, context=folder)
    listed = "import os; print(sorted(os.listdir('.')), '.env.prod' in os.listdir('migrations'))"
    assert python_in(tag, listed) == "['alembic.ini', 'migrations', 'requirements.txt'] False"


def test_packages_of_an_application_are_installed_as_the_page_says(
    runner: str, kept: Owned, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    write_project(folder, None, revisions=line("a1"))
    (folder / "Dockerfile").write_text(text_of("dependencies"))
    tag = kept.image("packages")
    (folder / "requirements.txt").write_text("sqlalchemy>=2.0,<2.1\nenvirons\n")
    build(tag, context=folder)
    code = "import environs, sqlalchemy; print(sqlalchemy.__version__)"
    assert python_in(tag, code).startswith("2.0.")
    (folder / "requirements.txt").write_text("sqlalchemy<2\n")
    built = build(tag, context=folder, check=False)
    assert built.returncode != 0
    assert "migrator 0.1.0 has requirement sqlalchemy>=2.0" in built.output


def test_the_tool_itself_is_built_as_the_page_says(kept: Owned, tmp_path: Path) -> None:
    tag = kept.image("runner")
    done = run(
        "bash", "-euo", "pipefail", "-c", script("runner").replace("migrator:runner", tag), cwd=REPOSITORY
    )
    assert done.returncode == 0
    assert inspect(tag)["Config"]["Labels"]["org.opencontainers.image.version"] == "0.1.0"


def test_quotes_in_an_env_file_are_told(shop: Shop) -> None:
    quoted = 'MIGRATOR_DATABASE_URL="postgresql://shop_owner:open-s3same@db:5432/shop"\n'
    (shop.folder / "migrate.env").write_text(quoted)
    options = ("--network", shop.postgres.network, "--env-file", str(shop.folder / "migrate.env"))
    done = docker("run", "--rm", *options, shop.images["shop-migrate"], check=False)
    assert done.returncode == ExitCode.USAGE, done.output
    assert "stands in quotes" in done.stderr


def test_a_certificate_of_another_authority_is_refused(shop: Shop, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(make_authority(other, ["DNS:db"]).ca, shop.folder / "ca.pem")
    for block in ("ca", "ca-variables"):
        done = shop.follow(block, check=False)
        assert done.returncode == ExitCode.REFUSED, done.output
        assert re.search("certificate verify failed|self-signed", done.stderr), done.output
    assert shop.database.tables == []


def test_a_run_with_tls_is_encrypted_on_every_connection(shop: Shop) -> None:
    query(shop.postgres.server.url, "ALTER SYSTEM SET log_connections = on")
    query(shop.postgres.server.url, "SELECT pg_reload_conf()")
    before = docker("logs", shop.postgres.name).stderr.count("\n")
    shop.follow("ca")
    log = docker("logs", shop.postgres.name).stderr.splitlines()[before:]
    query(shop.postgres.server.url, "ALTER SYSTEM RESET log_connections")
    query(shop.postgres.server.url, "SELECT pg_reload_conf()")
    authorized = [entry for entry in log if "connection authorized: user=shop_owner" in entry]
    assert len(authorized) >= 3
    assert all("SSL enabled" in entry for entry in authorized), authorized


def test_a_token_is_encoded_and_the_next_one_is_taken_when_it_comes(shop: Shop) -> None:
    token = f"db:5432/?Action=connect&X-Amz={secrets.token_urlsafe(8)}%2F@"
    (shop.folder / "token").write_text(f"{token}\n")
    server = shop.postgres.server.url
    query(server, "ALTER ROLE shop_owner PASSWORD %s", [f"later-{token}"])
    name = f"migrator-test-token-{secrets.token_hex(4)}"
    write, run_line = script("token").rsplit("docker run", 1)
    try:
        run("bash", "-euo", "pipefail", "-c", write, cwd=shop.folder)
        options = run_line.replace("shop-net", shop.postgres.network)
        options = options.replace("shop-migrate", shop.images["shop-migrate"]).replace("--rm", "")
        run("bash", "-euc", f"docker run --detach --name {name} {options}", cwd=shop.folder)
        refused = "not ready: password authentication failed"
        wait_until(lambda: refused in docker("logs", name).stderr, "the first token is refused")
        (shop.folder / "token").write_text(f"later-{token}\n")
        run("bash", "-euo", "pipefail", "-c", write, cwd=shop.folder)
        assert docker("wait", name).stdout.strip() == "0", docker("logs", name).output
        log = docker("logs", name).output
    finally:
        docker("rm", "--force", name, check=False)
    assert shop.is_at_head
    assert token not in log


def test_the_password_in_a_secret_file_is_nowhere_in_what_docker_tells(shop: Shop, kept: Owned) -> None:
    password = secrets.token_urlsafe(12)
    query(shop.postgres.server.url, "ALTER ROLE shop_owner PASSWORD %s", [password])
    (shop.folder / "secrets" / "database-url").write_text(f"postgresql://shop_owner:{password}@db:5432/shop")
    mounted = ("--volume", f"{shop.folder / 'secrets'}:/etc/shop:ro")
    named = ("--env", "MIGRATOR_DATABASE_URL_FILE=/etc/shop/database-url")
    image = shop.images["shop-migrate"]
    name = kept.container("--network", shop.postgres.network, *mounted, *named, image, "upgrade", "--verbose")
    assert docker("wait", name).stdout.strip() == "0"
    told = docker("inspect", name).stdout + docker("history", "--no-trunc", image).stdout
    assert password not in told + docker("logs", name).output
    assert shop.is_at_head


def test_jq_and_bash_are_there_for_the_blocks() -> None:
    assert all(shutil.which(program, path=os.environ["PATH"]) for program in ("jq", "bash", "git"))
