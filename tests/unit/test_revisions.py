"""The revision graph is read statically, and says what an import would say or that it does not know."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from migrator.errors import ExitCode
from migrator.revisions import (
    Graph,
    ProblemKind,
    RevisionFile,
    history_error,
    list_files,
    read_graph,
    read_head,
    syntax_problem,
)

NAMES = ("revision", "down_revision", "branch_labels", "depends_on")
FUNCTIONS = "\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n"

TEMPLATE = '''"""add orders.placed_at

Revision ID: 9a0c12
Revises: 8f2e1a

"""
from typing import Sequence, Union

import os as op


# revision identifiers, used by Alembic.
revision: str = '9a0c12'
down_revision: Union[str, Sequence[str], None] = '8f2e1a'
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
    """Upgrade schema."""


def downgrade() -> None:
    """Downgrade schema."""
'''

CONCLUSIVE = {
    "the template": TEMPLATE,
    "the template of older versions": "revision = 'a'\ndown_revision = None\nbranch_labels = None\ndepends_on = None\n",
    "windows line ends": TEMPLATE.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + TEMPLATE,
    "an encoding comment": "# -*- coding: utf-8 -*-\n" + TEMPLATE,
    "the word coding in the docstring": '"""encoding of names"""\nrevision = "a"\ndown_revision = None\n'
    + FUNCTIONS,
    "text beyond ASCII": TEMPLATE.replace("add orders", "füge Bestellungen → hinzu"),
    "no labels and dependencies": "revision = 'a'\ndown_revision = 'b'\n" + FUNCTIONS,
    "a merge": "revision = 'a'\ndown_revision = ('b', 'c')\n" + FUNCTIONS,
    "a merge as a list": "revision = 'a'\ndown_revision = ['b', 'c']\n" + FUNCTIONS,
    "a set of one": "revision = 'a'\ndown_revision = None\nbranch_labels = {'tax'}\n" + FUNCTIONS,
    "no parents as an empty tuple": "revision = 'a'\ndown_revision = ()\n" + FUNCTIONS,
    "a value over two lines": "revision = ('ab'\n    'cd')\ndown_revision = None\n" + FUNCTIONS,
    "an escape": "revision = 'a\\x62'\ndown_revision = None\n" + FUNCTIONS,
    "an escape that is none": '"""a\\d"""\nrevision = "a"\ndown_revision = None\n' + FUNCTIONS,
    "other constants and calls": "import logging\nrevision = 'a'\ndown_revision = None\n"
    "log = logging.getLogger('x')\nlog.debug('x')\nx, y = 1, 2\nlimits = {'a': 1}\nlimits['b'] = 2\n"
    + FUNCTIONS,
    "a class before the functions": "revision = 'a'\ndown_revision = None\n\nclass Order:\n    pass\n"
    + FUNCTIONS,
    "a decorated function": "import functools\nrevision = 'a'\ndown_revision = None\n"
    "\n@functools.cache\ndef f(): pass\n",
    "a function at the very start": "def f(): pass\nrevision = 'a'\ndown_revision = None\n",
    "the names after the functions": FUNCTIONS + "revision = 'a'\ndown_revision = None\n",
    "a column with a name like ours": TEMPLATE + "\ndef more():\n    return 'revision'\n",
    "a local variable with a name like ours": TEMPLATE
    + "\ndef more():\n    revision = 'x'\n    return revision\n",
    "code after the functions that has nothing to do with it": TEMPLATE + "\nfor n in range(2):\n    print\n",
    "a declaration without a value": "revision: str\nrevision = 'a'\ndown_revision = None\n" + FUNCTIONS,
    "a docstring with a line like a function": '"""one\ndef two\n"""\nrevision = "a"\ndown_revision = None\n',
    "a docstring with an indented part": '"""  one\n\n    two\n\tthree\n"""\nrevision = "a"\ndown_revision = None\n',
}

INCONCLUSIVE = {
    "a name taken from elsewhere": "base = 'b'\nrevision = 'a'\ndown_revision = base\n" + FUNCTIONS,
    "a computed value": "revision = 'a' + 'b'\ndown_revision = None\n" + FUNCTIONS,
    "a formatted string": "revision = f'{1}'\ndown_revision = None\n" + FUNCTIONS,
    "a number": "revision = 1\ndown_revision = None\n" + FUNCTIONS,
    "a parent that is a number": "revision = '2'\ndown_revision = 1\n" + FUNCTIONS,
    "None among the parents": "revision = 'a'\ndown_revision = ('b', None)\n" + FUNCTIONS,
    "no revision": "down_revision = None\n" + FUNCTIONS,
    "no parent": "revision = 'a'\n" + FUNCTIONS,
    "bound twice": "revision = 'a'\ndown_revision = None\nrevision = 'b'\n" + FUNCTIONS,
    "bound again after the functions": TEMPLATE + "\ndown_revision = 'x'\n",
    "bound again under if": TEMPLATE + "\nif True:\n    revision = 'x'\n",
    "bound before under if": "if True:\n    revision = 'a'\ndown_revision = None\n" + FUNCTIONS,
    "bound by try": "try:\n    revision = 'a'\nexcept Exception:\n    revision = 'b'\ndown_revision = None\n"
    + FUNCTIONS,
    "bound by for": TEMPLATE + "\nfor depends_on in ['x']:\n    pass\n",
    "bound by while": TEMPLATE + "\nwhile True:\n    depends_on = 'x'\n    break\n",
    "bound by with": TEMPLATE + "\nimport io\nwith io.StringIO('x') as depends_on:\n    pass\n",
    "bound by match": TEMPLATE + "\nmatch 'x':\n    case depends_on:\n        pass\n",
    "bound by an import": TEMPLATE + "\nimport os as branch_labels\n",
    "bound by a from import": TEMPLATE + "\nfrom os import name as revision\n",
    "bound by a star import": TEMPLATE + "\nfrom string import *\n",
    "bound by a star import before": "from string import *\n"
    + TEMPLATE.replace("from typing", "from typing"),
    "bound as one of several": "revision, down_revision = 'a', None\n" + FUNCTIONS,
    "bound in a chain": "revision = rev = 'a'\ndown_revision = None\n" + FUNCTIONS,
    "bound by a walrus": "revision = 'a'\ndown_revision = None\nprint(revision := 'b')\n" + FUNCTIONS,
    "added to": "revision = 'a'\ndown_revision = None\nrevision += 'b'\n" + FUNCTIONS,
    "deleted": "revision = 'a'\ndown_revision = None\nbranch_labels = 'x'\ndel branch_labels\n" + FUNCTIONS,
    "bound by a function": TEMPLATE + "\ndef f():\n    global revision\n    revision = 'x'\nf()\n",
    "a function of that name": TEMPLATE + "\ndef depends_on(): pass\n",
    "a class of that name": "class revision: pass\ndown_revision = None\n",
    "bound through globals": TEMPLATE + "\nglobals().update({'rev' 'ision': 'x'})\n",
    "bound through vars": "revision = 'a'\ndown_revision = None\nvars()['revision'] = 'b'\n" + FUNCTIONS,
    "bound through locals": "revision = 'a'\ndown_revision = None\nlocals().update(revision='b')\n"
    + FUNCTIONS,
    "bound by exec": TEMPLATE + "\nexec('rev' + 'ision = \"x\"')\n",
    "answered by the module": "revision = 'a'\ndown_revision = None\n\ndef __getattr__(name): return 'x'\n",
    "an encoding that is not UTF-8": "# -*- coding: latin-1 -*-\n" + TEMPLATE,
    "an unknown encoding": "# coding: no-such\n" + TEMPLATE,
    "a syntax error in the head": "revision = 'a\ndown_revision = None\n" + FUNCTIONS,
    "an empty file": "",
}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def imported(path: Path) -> ModuleType:
    """As Alembic loads a revision file."""
    spec = importlib.util.spec_from_file_location("a_revision", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


def assert_agrees_with_import(file: RevisionFile, *, where_it_can_be_imported: bool = False) -> None:
    try:
        module = imported(file.path)
    except SyntaxError:  # after the head: the import tells of it when the revision runs
        assert where_it_can_be_imported
        return
    bound = {name: getattr(module, name) for name in NAMES if hasattr(module, name)}
    assert {name: tuple(v) if isinstance(v, list | set) else v for name, v in bound.items()} == dict(file.raw)
    assert file.revision == module.revision
    assert file.docstring == module.__doc__
    for name in NAMES[1:]:
        value = bound.get(name)
        expected = () if value is None else (value,) if isinstance(value, str) else tuple(value)
        assert getattr(file, name) == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", CONCLUSIVE.values(), ids=CONCLUSIVE)
def test_a_head_of_literals_says_what_the_import_says(tmp_path: Path, text: str) -> None:
    file = read_head(str(write(tmp_path / "a.py", text)))
    assert file is not None
    assert_agrees_with_import(file)


@pytest.mark.parametrize("text", INCONCLUSIVE.values(), ids=INCONCLUSIVE)
def test_a_head_that_may_not_be_the_last_word_is_not_conclusive(tmp_path: Path, text: str) -> None:
    assert read_head(str(write(tmp_path / "a.py", text))) is None


def test_files_of_random_statements_are_read_as_imported_or_not_at_all(tmp_path: Path) -> None:
    chance = random.Random(20261)
    statements = [
        "revision = 'a'", "revision: str = 'b'", "down_revision = None", "down_revision = ('x', 'y')",
        "branch_labels = ['l']", "depends_on = {'d'}", "depends_on: object = 'e'", "branch_labels = None",
        "import os", "import os.path as revision", "from os import sep as depends_on", "x = 1", "x = revision = 'c'",
        "(x, down_revision) = 1, 'z'", "if x:\n    revision = 'i'", "for branch_labels in 'ab': pass",
        "def f():\n    revision = 'local'", "def f():\n    global depends_on\n    depends_on = 'g'", "f()",
        "class depends_on: pass", "class C:\n    revision = 'inner'", "x = [revision for revision in 'ab']",
        "x = [(branch_labels := n) for n in 'ab']", "x = lambda revision: revision", "del x", "branch_labels += ['m']",
        "try:\n    depends_on = 't'\nfinally:\n    pass", "globals()['revision'] = 'h'", "'a string'",
        "x = {'revision': 1}", "*revision, x = 'ab', 1", "@str\ndef revision(): pass",
    ]  # fmt: skip
    conclusive = 0
    for number in range(1000):
        chosen = chance.sample(statements, chance.randint(0, 6))
        if chance.random() < 0.8:
            chosen += ["revision = 'last'", "down_revision = None"][: chance.randint(1, 2)]
        chance.shuffle(chosen)
        file = read_head(
            str(write(tmp_path / f"{number}.py", "x, f = 1, print\n" + "\n".join(chosen) + "\n"))
        )
        if file is not None:
            conclusive += 1
            assert_agrees_with_import(file)
    assert conclusive > 50


def test_a_head_like_one_that_was_parsed_before_is_still_read_right(tmp_path: Path) -> None:
    assert read_head(str(write(tmp_path / "learned.py", TEMPLATE))) is not None
    chance = random.Random(20262)
    docstrings = [
        "add",
        "add \u2192 tax",
        "a\n\nb",
        " a\n   b\n\tc\n",
        "",
        "say 'it'",
        'say "it"',
        "a\\nb",
        "a\\",
        "\r\nb",
    ]
    docstrings += [
        'ends with "',
        "coding: latin-1",
        "\ndef f",
        "revision = 'x'",
        "x\nrevision = 'x'\n",
        "\udcff",
    ]
    literals = [
        "None",
        "'77de'",
        '"77de"',
        "''",
        "'7-7'",
        "'7' '7'",
        "('a', 'b')",
        "'7\\x41'",
        "b'7'",
        "other",
        "'7'  # x",
        "'é'",
    ]
    between = [
        "",
        "",
        "",
        "x = 1\n",
        "if True:\n    x = 1\n",
        "x = \\\n",
        "x = (\n",
        "other = 'o'\n",
        "@str\n",
        "'" * 3 + "\n",
    ]
    after = [
        "",
        "",
        "",
        "\nrevision = 'again'\n",
        "\nfrom string import *\n",
        "\nglobals()\n",
        "\n'a comment on revision'\n",
        "\n(",
    ]
    conclusive = 0
    for number in range(800):
        values = [chance.choice(literals[:3] if chance.random() < 0.8 else literals) for _ in NAMES]
        head, _, tail = TEMPLATE.partition("revision: str = ")
        head = head.replace("add orders.placed_at", chance.choice(docstrings)) + chance.choice(between)
        functions = tail[tail.index("\n\n\ndef") :]
        names = "".join(
            f"{name}: Union[str, None] = {value}\n" for name, value in zip(NAMES, values, strict=True)
        )
        text = head + names + functions + chance.choice(after)
        path = tmp_path / f"{number}.py"
        path.write_bytes(text.encode(errors="surrogateescape"))
        file = read_head(str(path))
        if file is not None:
            conclusive += 1
            assert_agrees_with_import(file, where_it_can_be_imported=True)
    assert conclusive > 50


def test_the_message_is_the_first_line_of_the_docstring(tmp_path: Path) -> None:
    file = read_head(str(write(tmp_path / "a.py", TEMPLATE)))
    assert file is not None
    assert file.message == "add orders.placed_at"
    without = read_head(str(write(tmp_path / "b.py", "revision = 'b'\ndown_revision = None\n")))
    assert without is not None
    assert without.message == ""


def test_files_that_cannot_be_read_and_compiled_ones_are_not_conclusive(tmp_path: Path) -> None:
    assert read_head(str(tmp_path / "missing.py")) is None
    (tmp_path / "directory.py").mkdir()
    assert read_head(str(tmp_path / "directory.py")) is None
    assert read_head(str(write(tmp_path / "a.pyc", TEMPLATE))) is None


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", TEMPLATE)
    os.utime(path, (1, 1))
    first = read_head(str(path))
    assert read_head(str(path)) is first
    write(path, TEMPLATE.replace("9a0c12", "77de77"))
    os.utime(path, (2, 2))
    changed = read_head(str(path))
    assert changed is not None
    assert changed.revision == "77de77"


def test_a_file_written_twice_within_a_tick_of_the_clock_is_read_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", TEMPLATE)
    status = path.stat()
    assert read_head(str(path)) is not None
    write(path, TEMPLATE.replace("9a0c12", "77de77"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = read_head(str(path))
    assert changed is not None
    assert changed.revision == "77de77"


def test_listing_skips_what_is_no_revision_and_lists_a_file_once(tmp_path: Path) -> None:
    versions, more = tmp_path / "versions", tmp_path / "more"
    for name in (
        "b.py",
        "a.py",
        "__init__.py",
        "notes.txt",
        "c.pyc",
        "old.py~",
        "sub/d.py",
        "sub/__pycache__/a.py",
    ):
        write(versions / name, TEMPLATE)
    more.mkdir()
    (more / "link.py").symlink_to(versions / "a.py")
    (more / ".#b.py").symlink_to("nobody@host.1:2")
    write(more / "e.py", TEMPLATE)

    def names(locations: list[Path], recursive: bool) -> list[str]:
        return [
            str(Path(p).relative_to(tmp_path))
            for p in list_files(locations, recursive=recursive, sourceless=False)
        ]

    assert names([versions], False) == ["versions/a.py", "versions/b.py"]
    assert names([versions], True) == ["versions/a.py", "versions/b.py", "versions/sub/d.py"]
    assert names([versions, more, versions], False) == ["versions/a.py", "versions/b.py", "more/e.py"]
    assert names([tmp_path / "nowhere"], True) == []


def history(tmp_path: Path, *texts: str) -> Graph:
    """A graph of files; each text is ``id < parent parent | key = value``."""
    for text in texts:
        reference, _, more = text.partition("|")
        revision, _, parents = (part.strip() for part in reference.partition("<"))
        lines = [
            f"revision = {revision.split()[0]!r}",
            f"down_revision = {tuple(parents.split())!r}",
            more.strip(),
        ]
        name = revision.replace(" ", "_")
        write(tmp_path / "versions" / f"{name}.py", f'"""{name}"""\n' + "\n".join(lines) + FUNCTIONS)
    return read_graph([tmp_path / "versions"])


def only_problem(graph: Graph, kind: ProblemKind) -> str:
    (problem,) = graph.problems()
    assert problem.kind is kind
    error = history_error(problem)
    assert error.exit_code is ExitCode.HISTORY
    assert error.next_step.endswith("Nothing was changed.")
    return "\n".join([error.message, *error.details, error.next_step])


def test_a_sound_history_has_no_problem(tmp_path: Path) -> None:
    graph = history(
        tmp_path, "a", "b < a", "c < a", "d < b c | depends_on = 'tax'", "e | branch_labels = 'tax'"
    )
    (problem,) = graph.problems()
    assert problem.kind is ProblemKind.SEVERAL_HEADS
    assert (graph.heads, graph.effective_heads, graph.bases) == (("d", "e"), ("d",), ("a", "e"))
    assert graph.ancestors(["d"]) == {"a", "b", "c", "d", "e"}
    assert graph.ancestors(["unknown"]) == set()
    assert history(tmp_path, "f < d e").problems() == []


def test_two_heads_name_their_files_their_ancestor_and_the_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    graph = history(tmp_path, "1f00", "77de < 1f00", "a31f add_tax < 77de", "b9c0 add_fee < 77de")
    assert only_problem(graph, ProblemKind.SEVERAL_HEADS) == (
        "two heads: a31f (versions/a31f_add_tax.py) and b9c0 (versions/b9c0_add_fee.py), both after 77de\n"
        'migrator merge a31f b9c0 -m "merge a31f and b9c0", commit the file, build again. Nothing was changed.'
    )


def test_heads_that_look_deliberate_are_told_of_upgrade_heads(tmp_path: Path) -> None:
    text = only_problem(history(tmp_path / "apart", "a", "b", "c"), ProblemKind.SEVERAL_HEADS)
    assert text.startswith("three heads: ")
    assert "no revision in common" in text
    assert "migrator upgrade heads" in text
    labelled = history(
        tmp_path / "labelled", "a", "b < a | branch_labels = 'expand'", "c < a | branch_labels = 'contract'"
    )
    assert "migrator upgrade heads" in only_problem(labelled, ProblemKind.SEVERAL_HEADS)
    accident = history(tmp_path / "accident", "a | branch_labels = 'shop'", "b < a", "c < a")
    assert "upgrade heads" not in only_problem(accident, ProblemKind.SEVERAL_HEADS)


def test_a_missing_parent_names_who_refers_to_it_and_the_nearest_id(tmp_path: Path) -> None:
    graph = history(tmp_path, "1f00a", "77de1 < 1f00a", "a31f2 < 77dd1")
    text = only_problem(graph, ProblemKind.MISSING_PARENT)
    assert "a31f2.py) comes after 77dd1, which no file defines" in text
    assert f"the nearest is 77de1 ({tmp_path / 'versions' / '77de1.py'})" in text
    assert "correct down_revision" in text


def test_a_partial_id_or_a_label_is_no_parent_but_the_revision_that_is_meant_is_named(tmp_path: Path) -> None:
    partial = history(tmp_path / "partial", "77de12345678", "a < 77de")
    assert "the nearest is 77de12345678" in only_problem(partial, ProblemKind.MISSING_PARENT)
    label = history(tmp_path / "label", "77de | branch_labels = 'shop'", "a < shop")
    assert "the nearest is 77de" in only_problem(label, ProblemKind.MISSING_PARENT)


def test_a_missing_dependency_is_no_missing_parent(tmp_path: Path) -> None:
    text = only_problem(
        history(tmp_path, "a", "b < a | depends_on = 'billing'"), ProblemKind.MISSING_DEPENDENCY
    )
    assert "depends on billing, which no file defines" in text
    assert "correct depends_on" in text


def test_a_duplicate_id_names_both_files(tmp_path: Path) -> None:
    text = only_problem(history(tmp_path, "a one", "a two"), ProblemKind.DUPLICATE_ID)
    assert text.startswith("two files define revision a: ")
    assert "a_one.py and " in text
    assert "a_two.py" in text


def test_a_branch_label_can_be_used_once(tmp_path: Path) -> None:
    graph = history(tmp_path, "a | branch_labels = 'tax'", "b < a | branch_labels = ['tax']")
    assert "the branch label tax of b" in only_problem(graph, ProblemKind.DUPLICATE_LABEL)
    graph = history(tmp_path / "id", "a", "b < a | branch_labels = 'a'")
    assert "already taken by a " in only_problem(graph, ProblemKind.DUPLICATE_LABEL)


def test_a_revision_cannot_come_after_itself(tmp_path: Path) -> None:
    graph = history(tmp_path / "parent", "a", "b < a b")
    assert "names itself as its down_revision" in only_problem(graph, ProblemKind.SELF_LOOP)
    graph = history(tmp_path / "dependency", "a", "b < a | depends_on = ['b']")
    assert "names itself as its depends_on" in only_problem(graph, ProblemKind.SELF_LOOP)


def test_a_cycle_is_shown_in_the_order_of_an_upgrade_without_what_is_only_beside_it(tmp_path: Path) -> None:
    graph = history(tmp_path, "root", "a < root c", "b < a", "c < b", "later < c", "side < root")
    text = only_problem(graph, ProblemKind.CYCLE)
    assert any(
        text.startswith(f"revisions come after each other in a circle: {' → '.join(order)}")
        for order in (("a", "b", "c", "a"), ("b", "c", "a", "b"), ("c", "a", "b", "c"))
    )
    assert "a.py) comes after c" in text
    assert "later" not in text
    assert "side" not in text


def test_each_of_two_cycles_is_found_also_through_a_dependency(tmp_path: Path) -> None:
    graph = history(
        tmp_path, "a < b", "b < a", "c < b", "d < c | depends_on = 'label'", "e < d | branch_labels='label'"
    )
    cycles = [problem for problem in graph.problems() if problem.kind is ProblemKind.CYCLE]
    assert sorted(sorted(file.revision for file in problem.files) for problem in cycles) == [
        ["a", "b"],
        ["d", "e"],
    ]
    assert "depends on e" in "\n".join(line for problem in cycles for line in history_error(problem).details)


def test_no_revisions_says_what_is_wrong_with_each_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    graph = read_graph([tmp_path / "empty", tmp_path / "missing"])
    text = only_problem(graph, ProblemKind.NO_REVISIONS)
    assert f"{tmp_path / 'empty'} holds no revision file" in text
    assert f"{tmp_path / 'missing'} does not exist" in text
    assert (
        "In a new project, migrator revision --autogenerate --scratch -m first writes the first one." in text
    )


def test_what_an_unread_file_could_explain_is_no_problem(tmp_path: Path) -> None:
    history(tmp_path, "a", "b < a", "c < unknown", "x one", "x two")
    write(tmp_path / "versions" / "computed.py", "revision = 'unk' + 'nown'\ndown_revision = 'b'\n")
    graph = read_graph([tmp_path / "versions"])
    assert [path.name for path in graph.unread] == ["computed.py"]
    assert [problem.kind for problem in graph.problems()] == [ProblemKind.DUPLICATE_ID]


def test_a_syntax_error_is_found_with_its_line_without_running_the_file(tmp_path: Path) -> None:
    assert syntax_problem(write(tmp_path / "good.py", TEMPLATE + "\nraise SystemExit(1)\n")) is None
    line, words = syntax_problem(write(tmp_path / "bad.py", TEMPLATE + "\nx = (1,\n")) or (0, "")
    assert line == TEMPLATE.count("\n") + 2
    assert "never closed" in words
    line, words = syntax_problem(write(tmp_path / "zero.py", "a = 1\nb = '\0'\n")) or (0, "")
    assert "null bytes" in words
    line, words = syntax_problem(write(tmp_path / "late.py", "a = 1\nreturn a\n")) or (0, "")
    assert line == 2


def test_a_history_longer_than_the_recursion_limit_is_fine(tmp_path: Path) -> None:
    ids = [f"{number:04x}" for number in range(sys.getrecursionlimit() + 100)]
    files = [
        RevisionFile(str(tmp_path / one), one, (parent,) if parent else (), (), (), None, ())
        for parent, one in itertools.pairwise(["", *ids])
    ]
    assert Graph(files).problems() == []
    closed = [*files[1:], RevisionFile(str(tmp_path / ids[0]), ids[0], (ids[-1],), (), (), None, ())]
    (problem,) = Graph(closed).problems()
    assert problem.kind is ProblemKind.CYCLE
    assert len(problem.files) == len(ids)
