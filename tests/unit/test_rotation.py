"""Which secret file still means the same database, and who learns the password that takes over."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from migrator import Settings, load_settings
from migrator.redaction import Redactor


class SecretFile:
    """A file with a URL, and the settings that were made of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, url: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(f"{url}\n")
        os.replace(new, self.path)

    def load(self) -> Settings:
        return load_settings({"database_url_file": str(self.path)}, environ={})


@pytest.fixture
def secret(tmp_path: Path) -> SecretFile:
    return SecretFile(tmp_path / "database-url")


def now(settings: Settings) -> tuple[str, str]:
    """The URL as it is used, and as ``env.py`` gets it."""
    assert settings.database is not None
    return settings.database.url.render_as_string(hide_password=False), settings.database.for_project


def reads(secret: SecretFile, first: str, second: str) -> tuple[str, str]:
    """What settings that were made of ``first`` say when the file holds ``second``."""
    secret.write(first)
    settings = secret.load()
    assert now(settings)[1] == first
    secret.write(second)
    return now(settings)


@pytest.mark.parametrize(
    ("first", "second", "followed"),
    [
        ("postgresql://", "postgresql+psycopg://", "postgresql://"),
        ("postgresql://", "postgresql+asyncpg://", "postgresql://"),
        ("postgresql+asyncpg://", "postgresql://", "postgresql+asyncpg://"),
        ("postgresql+psycopg2://", "postgres://", "postgresql+psycopg2://"),
        ("mysql+pymysql://", "mysql+aiomysql://", "mysql+pymysql://"),
    ],
)
def test_a_file_that_names_another_driver_by_now_is_followed_and_the_driver_stays(
    secret: SecretFile, first: str, second: str, followed: str
) -> None:
    place = "@db.internal:7000/shop?application_name=x"
    used, given = reads(secret, f"{first}shop:old-one{place}", f"{second}shop:new%40one{place}")
    assert used == given == f"{followed}shop:new%40one{place}"


def test_a_port_that_is_written_out_by_now_is_the_same_port(secret: SecretFile) -> None:
    used, _ = reads(secret, "postgresql://shop:old-one@db/shop", "postgresql://shop:new-one@db:5432/shop")
    assert "new-one" in used


@pytest.mark.parametrize(
    "elsewhere",
    [
        "mysql+pymysql://shop:new-one@db:7000/shop",
        "postgresql://shop:new-one@other:7000/shop",
        "postgresql://shop:new-one@db/shop",
        "postgresql://shop:new-one@db:7001/shop",
        "postgresql://shop:new-one@db:7000/other",
        "postgresql://shop:new-one@/shop?host=db&port=7001",
    ],
)
def test_a_file_that_names_another_database_by_now_is_not_followed(
    secret: SecretFile, elsewhere: str
) -> None:
    first = "postgresql://shop:old-one@db:7000/shop"
    assert reads(secret, first, elsewhere) == (first, first)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: one.model_copy(deep=True)])
def test_what_a_copy_of_the_settings_reads_is_masked_as_well(secret: SecretFile, copied: object) -> None:
    assert callable(copied)
    secret.write("postgresql://shop:old-one@db/shop")
    settings, redactor = secret.load(), Redactor()
    with settings.secrets_told_to(redactor.add):
        other = copied(settings)
        secret.write("postgresql://shop:new-one@db/shop")
        assert "new-one" in now(other)[0]
        assert "new-one" not in redactor.redact("a line with new-one in it")


def test_settings_that_went_to_another_process_begin_with_what_the_file_holds_then(
    secret: SecretFile,
) -> None:
    secret.write("postgresql://shop:old-one@db/shop")
    sent = pickle.dumps(secret.load())
    secret.write("postgresql://shop:new-one@db/shop")
    assert "new-one" in now(pickle.loads(sent))[0]
