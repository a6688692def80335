"""A history that is wrong: exit 23 with the files and the command that corrects it, and before anything connects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from migrator.errors import ExitCode
from tests.acceptance.judging import refused, url_with
from tests.harness import Database, Project, Revision, table_revision, table_revisions

MakeProject = Callable[..., Project]


@pytest.fixture
def unreachable(database: Database, closed_port: int) -> Mapping[str, str]:
    """With these variables, whatever connects ends with another exit code."""
    return {"MIGRATOR_DATABASE_URL": url_with(database.url, port=closed_port), "MIGRATOR_WAIT_TIMEOUT": "0"}


def test_a_missing_parent_is_told_with_the_file_that_names_it(
    project: MakeProject, unreachable: Mapping[str, str]
) -> None:
    shop = project(revisions=[*table_revisions("a1b2", "c3d4"), table_revision("e5f6", "c3d5")])
    told = refused(
        shop,
        "upgrade",
        env=unreachable,
        code=ExitCode.HISTORY,
        says=[
            "revision e5f6 (migrations/versions/e5f6_create_t_e5f6.py) comes after c3d5",
            "looked in migrations/versions",
            "the nearest is c3d4",
        ],
        then=["down_revision", "another branch"],
    )
    assert told.error["file"] == "migrations/versions/e5f6_create_t_e5f6.py"


def test_a_duplicate_id_is_told_with_both_files(project: MakeProject, unreachable: Mapping[str, str]) -> None:
    copied = Revision("b2", "a1", message="copied")
    shop = project(revisions=[*table_revisions("a1", "b2"), copied])
    refused(
        shop,
        "upgrade",
        env=unreachable,
        code=ExitCode.HISTORY,
        says=[
            "two files define revision b2",
            "migrations/versions/b2_copied.py",
            "migrations/versions/b2_create_t_b2.py",
        ],
        then=["Remove the copy"],
    )


def test_a_revision_after_itself_is_told(project: MakeProject, unreachable: Mapping[str, str]) -> None:
    shop = project(revisions=[table_revision("a1", None), table_revision("b2", "b2")])
    refused(
        shop,
        "upgrade",
        env=unreachable,
        code=ExitCode.HISTORY,
        says=["b2 (migrations/versions/b2_create_t_b2.py) names itself as its down_revision"],
        then=["Set down_revision to the revision that came before it"],
    )


def test_a_circle_is_told_with_every_file_of_it(project: MakeProject, unreachable: Mapping[str, str]) -> None:
    circle = [table_revision("b2", "d4"), table_revision("c3", "b2"), table_revision("d4", "c3")]
    shop = project(revisions=[table_revision("a1", None), *circle])
    refused(
        shop,
        "upgrade",
        env=unreachable,
        code=ExitCode.HISTORY,
        says=[
            "come after each other in a circle",
            "b2 (migrations/versions/b2_create_t_b2.py) comes after d4",
            "c3 (migrations/versions/c3_create_t_c3.py) comes after b2",
            "d4 (migrations/versions/d4_create_t_d4.py) comes after c3",
        ],
        then=["Correct down_revision"],
    )


def test_several_heads_are_told_with_their_files_and_the_merge_that_joins_them(
    project: MakeProject, unreachable: Mapping[str, str], database: Database
) -> None:
    tax, fee = (
        Revision(one, "77de", message=f"add {name}") for one, name in (("a31f", "tax"), ("b9c0", "fee"))
    )
    shop = project(revisions=[table_revision("77de", None), tax, fee])
    told = refused(
        shop,
        "upgrade",
        env=unreachable,
        code=ExitCode.HISTORY,
        says=[
            "two heads: a31f (migrations/versions/a31f_add_tax.py) and b9c0 (migrations/versions/b9c0_add_fee.py)",
            "both after 77de",
        ],
        then=['migrator merge a31f b9c0 -m "merge a31f and b9c0"', "commit the file, build again"],
    )
    command = told.next.partition("migrator ")[2].partition(", commit")[0]
    shop.migrator(*command.replace('"', "").split(" ", 4), env=unreachable, check=True)
    shop.migrator("upgrade", check=True)
    assert len(database.revisions) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upgrade", "c3"], ["there is no revision c3"]),
        (["upgrade", "accounts@head"], ["there is no revision accounts", "asked for: accounts@head"]),
        (["upgrade", "+5"], ["+5"]),
        (["downgrade", "c3"], ["there is no revision c3"]),
        (["stamp", "c3"], ["there is no revision c3"]),
    ],
)
def test_a_target_that_does_not_exist_is_told(
    project: MakeProject, arguments: list[str], said: list[str]
) -> None:
    shop = project(revisions=table_revisions("a1", "b2"))
    refused(shop, *arguments, code=ExitCode.HISTORY, says=said, then=["migrator history"])


def test_a_mistyped_target_is_told_with_what_is_close_to_it(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("9a0c12d4", "b7730e21"))
    refused(
        shop,
        "upgrade",
        "b7703e21",
        code=ExitCode.HISTORY,
        says=["there is no revision b7703e21", "close to it: b7730e21"],
        then=["migrator history"],
    )


def test_the_beginning_of_several_ids_is_no_target(project: MakeProject) -> None:
    shop = project(revisions=table_revisions("9a0c12", "9a0c77"))
    refused(
        shop,
        "upgrade",
        "9a0c",
        code=ExitCode.HISTORY,
        says=["several revisions begin with 9a0c: 9a0c12, 9a0c77"],
        then=["migrator history"],
    )


def test_a_database_that_is_ahead_is_told_and_may_be_accepted(
    project: MakeProject, database: Database
) -> None:
    shop = project(revisions=table_revisions("a1", "b2", "c3"))
    shop.migrator("upgrade", check=True)
    (shop.versions / "c3_create_t_c3.py").unlink()
    refused(
        shop,
        "upgrade",
        code=ExitCode.HISTORY,
        says=["the database is ahead of this image: it is at c3", "newest here: b2"],
        then=["MIGRATOR_ALLOW_AHEAD=yes"],
    )
    accepted = shop.migrator("upgrade", "--allow-ahead", check=True)
    assert "nothing to do: at c3" in accepted.stderr
    assert database.revisions == ["c3"]


def test_tables_without_a_version_table_are_told_with_the_way_to_stamp(
    project: MakeProject, database: Database
) -> None:
    database.query("CREATE TABLE t_a1 (id int PRIMARY KEY)")
    shop = project(revisions=table_revisions("a1", "b2"))
    told = refused(
        shop,
        "upgrade",
        code=ExitCode.HISTORY,
        says=[
            "the database has tables already, and no revision is recorded in it",
            "42P07",
            "public.alembic_version",
        ],
        then=["migrator stamp REVISION"],
    )
    assert told.error["sqlstate"] == "42P07"
    shop.migrator("stamp", "a1", check=True)
    shop.migrator("upgrade", check=True)
    assert (database.revisions, database.tables) == (["b2"], ["t_a1", "t_b2"])


@pytest.mark.parametrize("name", ["head", "base", "2026-11-21", "tax@home"])
def test_an_id_that_can_never_be_meant_is_refused_before_anything_connects(
    project: MakeProject, name: str
) -> None:
    shop = project(revisions=[Revision(name, None, message="create orders")])
    refused(
        shop,
        "upgrade",
        env={"MIGRATOR_DATABASE_URL": "postgresql://shop:x@db.internal/shop"},
        code=ExitCode.HISTORY,
        says=[name, "cannot be the id of a revision", "create_orders.py"],
        then=["Give it another id"],
    )


@pytest.mark.parametrize("command", [("upgrade", "+2"), ("downgrade", "-2")])
def test_more_steps_than_there_are_are_told_in_words(project: MakeProject, command: tuple[str, str]) -> None:
    shop = project(revisions=table_revisions("a1", "b2"))
    shop.migrator("upgrade", "a1", check=True)
    refused(
        shop,
        *command,
        code=ExitCode.HISTORY,
        says=[f"there are not that many revisions from where the database is: {command[1]}"],
        then=["migrator history"],
    )


def test_a_step_back_from_a_merge_says_that_it_may_lead_to_several(project: MakeProject) -> None:
    shop = project(
        revisions=[*table_revisions("a1", "b2"), table_revision("c3", "a1"), Revision("d4", ("b2", "c3"))]
    )
    shop.migrator("upgrade", check=True)
    refused(
        shop,
        "downgrade",
        "-1",
        code=ExitCode.HISTORY,
        says=["-1 leads to several revisions from where the database is", "by its id"],
        then=["migrator history"],
    )
