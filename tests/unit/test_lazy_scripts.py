"""Alembic's own ScriptDirectory over files that are imported only when they run: the same answers, fewer imports."""

from __future__ import annotations

import random
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.runtime.migration import RevisionStep, StampStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import CycleDetected, RevisionError
from alembic.util import CommandError

from migrator.environment.script import graph_of, imported_module, install_lazy_revision_map
from migrator.revisions import ProblemKind, list_files

MAKO = '''"""${message}"""
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade():
    pass
'''


class Project:
    """A script directory whose revision files note in a file that they were imported."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.versions = root / "versions"
        self.notes = root / "imported"
        self.versions.mkdir(parents=True, exist_ok=True)
        (root / "script.py.mako").write_text(MAKO)

    def add(
        self, revision: str, head: str, *, folder: str = "versions", name: str = "", tail: str = ""
    ) -> Path:
        path = self.root / folder / f"{name or revision}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f'"""message of {revision}\n\nmore\n"""\nrevision = {revision!r}\n{head}\n\n\ndef upgrade():\n'
            f"    return place\n\n\ndef downgrade():\n    pass\n\n\nplace = {revision[::-1]!r}\n"
            f"open({str(self.notes)!r}, 'a').write({name or revision!r} + '\\n')\n{tail}\n"
        )
        return path

    def line(self, *revisions: str) -> None:
        for parent, revision in zip([None, *revisions], revisions, strict=False):
            self.add(revision, f"down_revision = {parent!r}")

    def plain(self, **options: Any) -> ScriptDirectory:
        return ScriptDirectory(str(self.root), **options)

    def lazy(self, **options: Any) -> ScriptDirectory:
        script = self.plain(**options)
        install_lazy_revision_map(script)
        return script

    @property
    def imported(self) -> list[str]:
        return self.notes.read_text().split() if self.notes.exists() else []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "migrations")


def test_nothing_is_imported_to_find_that_there_is_nothing_to_do(project: Project) -> None:
    project.line("aaaa1", "bbbb2", "cccc3")
    script = project.lazy()
    assert script.get_current_head() == "cccc3"
    assert script._upgrade_revs("head", "cccc3") == []
    assert [rev.doc for rev in script.walk_revisions()] == [
        f"message of {one}" for one in ("cccc3", "bbbb2", "aaaa1")
    ]
    assert project.imported == []


def test_only_what_runs_is_imported(project: Project) -> None:
    project.line("aaaa1", "bbbb2", "cccc3")
    script = project.lazy()
    (step,) = script._upgrade_revs("head", "bbbb2")
    assert project.imported == ["cccc3"]
    assert step.migration_fn() == "3cccc"  # type: ignore[attr-defined]
    (step,) = script._downgrade_revs("aaaa1", "bbbb2")
    assert project.imported == ["cccc3", "bbbb2"]


def test_a_file_that_is_not_conclusive_is_imported_as_alembic_does(project: Project) -> None:
    project.line("aaaa1", "bbbb2")
    project.add("cccc3", "down_revision = 'bbbb' + '2'")
    script = project.lazy()
    assert script.get_heads() == ["cccc3"]
    assert project.imported == ["cccc3"]


def test_the_four_names_and_the_docstring_are_known_without_an_import(project: Project) -> None:
    project.add("aaaa1", "down_revision = None\nbranch_labels = ['tax']")
    script = project.lazy().get_revision("aaaa1")
    module = script.module
    assert (module.revision, module.down_revision, tuple(module.branch_labels)) == ("aaaa1", None, ("tax",))
    assert not hasattr(module, "depends_on")
    assert getattr(module, "depends_on", "default") == "default"
    assert script.longdoc == "message of aaaa1\n\nmore"
    assert "not imported" in repr(module)
    assert isinstance(module, type(pytest))
    assert not isinstance(module, str)
    assert project.imported == []


@pytest.mark.parametrize(
    "use",
    [
        lambda module: module.place,
        lambda module: hasattr(module, "upgrade"),
        lambda module: module.__name__,
        lambda module: module.__file__,
        lambda module: module.__spec__,
        lambda module: vars(module)["place"],
        lambda module: "place" in dir(module) or pytest.fail("not in dir()"),
        lambda module: setattr(module, "place", "set"),
        lambda module: delattr(module, "place"),
    ],
)
def test_whatever_else_is_asked_of_the_module_imports_it_once(
    project: Project, use: Callable[[Any], object]
) -> None:
    project.add("aaaa1", "down_revision = None")
    module = project.lazy().get_revision("aaaa1").module
    use(module)
    use_again = module.upgrade
    assert use_again is module.upgrade
    assert project.imported == ["aaaa1"]


def test_an_imported_module_is_the_one_that_alembic_would_have_loaded(project: Project) -> None:
    project.add("aaaa1", "down_revision = None", name="2026-01-02 add tax")
    plain = project.plain().get_revision("aaaa1").module
    module = project.lazy().get_revision("aaaa1").module
    assert (module.__name__, module.__file__, module.__doc__) == (
        plain.__name__,
        plain.__file__,
        plain.__doc__,
    )
    assert sorted(dir(module)) == sorted(dir(plain))
    assert repr(module) == repr(plain)
    module.place = "changed"
    assert module.upgrade() == "changed"
    del module.place
    with pytest.raises(NameError):
        module.upgrade()


def test_an_error_in_an_import_is_raised_at_each_use_with_its_place_in_the_file(project: Project) -> None:
    path = project.add("aaaa1", "down_revision = None", tail="raise LookupError('no such table')")
    script = project.lazy()
    assert script.get_heads() == ["aaaa1"]
    for _ in range(2):
        with pytest.raises(LookupError, match="no such table") as caught:
            script._upgrade_revs("head", "base")
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[-1].filename == str(path.resolve())
        assert frames[-1].line == "raise LookupError('no such table')"
    assert project.imported == ["aaaa1", "aaaa1"]


def test_importing_a_revision_on_purpose_hides_no_attribute_error(project: Project) -> None:
    project.line("aaaa1")
    project.add("bbbb2", "down_revision = 'aaaa1'", tail="''.no_such_method")
    project.add("cccc3", "down_revision = 'bbb' + 'b2'")
    script = project.lazy()
    assert imported_module(script.get_revision("aaaa1")).place == "1aaaa"
    assert imported_module(script.get_revision("cccc3")).place == "3cccc"
    with pytest.raises(AttributeError, match="no_such_method"):
        imported_module(script.get_revision("bbbb2"))


def test_locations_that_env_py_sets_are_used(project: Project) -> None:
    project.line("aaaa1")
    project.add("bbbb2", "down_revision = None", folder="postgresql")
    script = project.lazy()
    script.version_locations = [str(project.root / "postgresql")]
    assert script.get_heads() == ["bbbb2"]


def test_a_new_revision_and_a_merge_are_generated_into_the_map(project: Project) -> None:
    project.line("aaaa1", "bbbb2")
    project.add("cccc3", "down_revision = 'aaaa1'")
    script = project.lazy()
    merge = script.generate_revision("dddd4", "merge", head="heads", depends_on=None)
    assert merge is not None
    assert set(merge.down_revision or ()) == {"bbbb2", "cccc3"}
    assert script.get_heads() == ["dddd4"]
    script.generate_revision("eeee5", "next", head="dddd4", branch_labels="tax", depends_on="bbbb")
    assert script.get_heads() == project.lazy().get_heads() == ["eeee5"]
    assert project.lazy().get_revision("tax@head").dependencies == "bbbb2"
    assert project.imported == []


def test_listing_is_the_same_as_alembics(project: Project) -> None:
    project.line("aaaa1", "bbbb2")
    project.add("cccc3", "down_revision = 'bbbb2'", folder="versions/deep")
    project.add("dddd4", "down_revision = 'cccc3'", folder="more")
    project.add("eeee5", "down_revision = 'dddd4'", folder="more", name="__init__x")
    (project.root / "more" / "again.py").symlink_to(project.versions / "aaaa1.py")
    (project.root / "more" / ".#dddd4.py").symlink_to("someone@host.1")
    (project.root / "link").symlink_to(project.versions)
    (project.versions / "notes.txt").write_text("x")
    for folders in (
        ["versions"],
        ["versions", "more"],
        ["more", "versions"],
        ["link", "versions"],
        ["none", "more"],
    ):
        for recursive in (False, True):
            locations = [str(project.root / folder) for folder in folders]
            script = project.plain(version_locations=locations, recursive_version_locations=recursive)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = [one.path for one in script._load_revisions()]
            listed = list_files([Path(one) for one in locations], recursive=recursive, sourceless=False)
            assert [str(path) for path in listed] == [str(path) for path in expected]


def test_compiled_files_without_their_source_are_revisions_where_sourceless_is_set(project: Project) -> None:
    import py_compile

    for revision, parent in (("aaaa1", None), ("bbbb2", "aaaa1"), ("cccc3", "bbbb2")):
        path = project.add(revision, f"down_revision = {parent!r}")
        if revision == "aaaa1":
            py_compile.compile(str(path), cfile=str(path) + "c")
            path.unlink()
        if revision == "bbbb2":
            py_compile.compile(str(path))
            path.unlink()
        if revision == "cccc3":
            py_compile.compile(str(path))
            py_compile.compile(str(path), cfile=str(path) + "c")
    assert [one.revision for one in project.lazy(sourceless=True).walk_revisions()] == [
        "cccc3",
        "bbbb2",
        "aaaa1",
    ]
    plain = {str(one.path) for one in project.plain(sourceless=True)._load_revisions()}
    assert set(list_files([project.versions], recursive=False, sourceless=True)) == plain


def test_commands_of_alembic_work_through_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from alembic import command

    project.line("aaaa1", "bbbb2")
    project.add("cccc3", "down_revision = 'aaaa1'\nbranch_labels = 'tax'\ndepends_on = 'bbbb2'")
    build = ScriptDirectory.from_config

    def from_config(config: Config) -> ScriptDirectory:
        script = build(config)
        install_lazy_revision_map(script)
        return script

    def run() -> str:
        output = io.StringIO()
        config = Config(output_buffer=output, stdout=output)
        config.set_main_option("script_location", str(project.root))
        command.heads(config, verbose=True)
        command.history(config, verbose=True)
        command.history(config, "aaaa1:cccc3")
        command.branches(config, verbose=True)
        command.show(config, "heads")
        return output.getvalue()

    expected = run()
    assert "message of cccc3" in expected
    project.notes.unlink()
    monkeypatch.setattr(ScriptDirectory, "from_config", from_config)
    assert run() == expected
    assert project.imported == []


def test_a_duplicate_id_is_warned_of_and_the_later_file_wins_as_in_alembic(project: Project) -> None:
    project.line("aaaa1", "bbbb2")
    project.add("aaaa1", "down_revision = None", name="zzzz")
    found = []
    for script in (project.plain(), project.lazy()):
        with pytest.warns(UserWarning, match="aaaa1 is present more than once"):
            heads = script.get_heads()
        path = str(script.get_revision("aaaa1").path)
        found.append((heads, path, list(script.revision_map._revision_map)))
    assert found[0][1].endswith("zzzz.py")
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore:Revision gone0 referenced")
@pytest.mark.parametrize(("parent", "error"), [("gone0", KeyError), ("bbbb2", CycleDetected)])
def test_a_broken_history_is_refused_each_time_it_is_asked(
    project: Project, parent: str, error: type[Exception]
) -> None:
    project.line("base0")
    project.add("aaaa1", f"down_revision = {parent!r}")
    project.add("bbbb2", "down_revision = 'aaaa1'")
    script = project.lazy()
    for _ in range(2):
        with pytest.raises(error):
            assert script.revision_map.heads
    project.add("aaaa1", "down_revision = 'base0'")
    assert script.revision_map.heads == ("bbbb2",)


def test_the_whole_graph_includes_files_that_must_be_imported(project: Project) -> None:
    project.line("aaaa1", "bbbb2")
    project.add("cccc3", "down_revision = ('bbb' + 'b2', 'gone')\ndepends_on = ['aaaa' + '1']")
    (problem,) = graph_of(project.plain()).problems()
    assert problem.kind is ProblemKind.MISSING_PARENT
    assert (problem.files[0].revision, problem.name) == ("cccc3", "gone")
    assert problem.files[0].depends_on == ("aaaa1",)
    assert problem.files[0].message == "message of cccc3"
    assert project.imported == ["cccc3"]


Outcome = tuple[str, object]


def outcome(ask: Callable[[], Any]) -> Outcome:
    """The answer in terms of ids, or the error."""
    try:
        return "answer", simple(ask())
    except (
        RevisionError,
        CommandError,
        AssertionError,
        KeyError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        return type(error).__name__, words(str(error))


def words(text: str) -> list[str]:
    """Sorted, since Alembic prints sets."""
    return sorted(text.replace(",", " ").replace("'", " ").split())


def simple(answer: Any) -> object:
    if isinstance(answer, Script):
        labels, below = sorted(answer.branch_labels), sorted(answer._all_down_revisions)
        return answer.revision, words(answer.log_entry), words(str(answer)), labels, below
    if isinstance(answer, set | frozenset):
        return sorted(str(simple(one)) for one in answer)
    if isinstance(answer, list | tuple | Iterator):
        return [simple(one) for one in answer]
    if isinstance(answer, RevisionStep):
        versions = sorted(answer.from_revisions), sorted(answer.to_revisions)
        return answer.revision.revision, answer.is_upgrade, answer.migration_fn.__name__, versions
    if isinstance(answer, StampStep):
        return str(answer.from_), str(answer.to_), answer.is_upgrade, answer.branch_move
    assert isinstance(answer, str | None)
    return answer


def a_random_history(chance: random.Random, project: Project) -> tuple[list[str], list[str]]:
    """Write one; return its ids and labels."""
    ids: list[str] = []
    labels: list[str] = []
    heads: set[str] = set()
    for number in range(chance.randint(1, 18)):
        start = chance.choice(ids)[:5] if ids and chance.random() < 0.2 else ""
        revision = (start + f"{chance.getrandbits(48):012x}")[:12]
        kind = chance.random()
        if not ids or kind < 0.12:
            parents: list[str] = []
        elif kind < 0.27 and len(heads) > 1:
            parents = chance.sample(sorted(heads), 2)
        elif kind < 0.75 and heads:
            parents = [chance.choice(sorted(heads))]
        else:
            parents = [chance.choice(ids)]
        lines = ["down_revision = " + written(chance, parents)]
        if chance.random() < (0.4 if not parents else 0.1):
            label = f"label{number}"
            labels.append(label)
            lines.append("branch_labels = " + written(chance, [label]))
        elif chance.random() < 0.5:
            lines.append("branch_labels = None")
        if ids and chance.random() < 0.2:
            needed = chance.sample(ids + labels[:-1], 1 if len(ids) < 2 else chance.randint(1, 2))
            lines.append("depends_on = " + written(chance, needed))
        project.add(revision, "\n".join(lines), name=f"{chance.getrandbits(16):04x}_{number}")
        ids.append(revision)
        heads = heads.difference(parents) | {revision}
    return ids, labels


def written(chance: random.Random, values: list[str]) -> str:
    if not values:
        return chance.choice(["None", "()"])
    forms = [repr(tuple(values)), repr(values), f"tuple({values!r})"]
    if len(values) == 1:
        forms += [repr(values[0])] * 5 + [
            f"{values[0][:2]!r} {values[0][2:]!r}",
            f"{values[0][:2]!r} + {values[0][2:]!r}",
        ]
    return chance.choice(forms)


@pytest.mark.parametrize("seed", range(60))
def test_answers_are_those_of_alembic_on_a_random_history(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    project = Project(tmp_path)
    ids, labels = a_random_history(chance, project)

    def some(count: int, values: list[str]) -> list[str]:
        return chance.sample(values, min(count, len(values)))

    targets = ["head", "heads", "base", "+1", "+2", "-1", "-2", "nothing"]
    targets += some(6, ids) + [one[: chance.randint(3, 8)] for one in some(4, ids)]
    targets += [one + chance.choice(["+1", "-1", "+2"]) for one in some(4, ids)]
    for label in some(3, [*labels, *some(1, ids)]):
        targets += [f"{label}@head", f"{label}@heads", f"{label}@base", f"{label}@+1", f"{label}@-1", label]
    current: list[Any] = [None, (), *some(4, ids), *(tuple(some(2, ids)) for _ in range(2))]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, lazy = project.plain(), project.lazy()
        current.append(tuple(plain.revision_map._real_heads))
        questions: list[Callable[[ScriptDirectory], Any]] = [
            lambda script: script.get_heads(),
            lambda script: script.get_bases(),
            lambda script: script.revision_map._real_heads,
            lambda script: script.revision_map._real_bases,
            lambda script: script.get_current_head(),
            lambda script: script.walk_revisions(),
        ]
        for target in targets:
            questions += [
                lambda script, t=target: script.get_revision(t),
                lambda script, t=target: script.get_revisions(t),
                lambda script, t=target: script.as_revision_number(t),
                lambda script, t=target: script.walk_revisions(head=t),
            ]
            for at in current:
                questions += [
                    lambda script, t=target, a=at: script._upgrade_revs(t, a),
                    lambda script, t=target, a=at: script._downgrade_revs(t, a),
                    lambda script, t=target, a=at: script._stamp_revs(t, a),
                    lambda script, t=target, a=at: script.iterate_revisions(t, a),
                ]
        for at in current[2:]:
            questions.append(lambda script, a=at: script.get_all_current(a if isinstance(a, tuple) else (a,)))
        for question in questions:
            assert outcome(lambda q=question: q(lazy)) == outcome(lambda q=question: q(plain))

    graph = graph_of(plain)
    assert graph.heads == plain.revision_map.heads
    assert sorted(graph.bases) == sorted(plain.revision_map.bases)
    assert sorted(graph.effective_heads) == sorted(set(plain.revision_map._real_heads) & set(graph.heads))
    assert {problem.kind for problem in graph.problems()} <= {ProblemKind.SEVERAL_HEADS}
    for revision in ids:
        below = plain.revision_map._get_ancestor_nodes([plain.get_revision(revision)])
        assert graph.ancestors([revision]) == {one.revision for one in below}
