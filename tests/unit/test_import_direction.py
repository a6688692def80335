"""The order of the modules: each imports only what stands below it, and Alembic is met in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import REPOSITORY

PACKAGE = REPOSITORY / "migrator"
# Top to bottom; a package is one entry, whatever is inside it.
ORDER = (
    "__init__",
    "__main__",
    "cli",
    "options",
    "process",
    "aio",
    "api",
    "checking",
    "demo",
    "explaining",
    "report",
    "reversing",
    "generating",
    "scratch",
    "waiting",
    "inspection",
    "job",
    "preflight",
    "conclusion",
    "watch",
    "stopping",
    "environment",
    "looking",
    "declared",
    "truth",
    "lock",
    "revisions",
    "renames",
    "disposable",
    "readiness",
    "database",
    "tls",
    "dialects",
    "embedded",
    "unprivileged",
    "loading",
    "settings",
    "rotation",
    "configured",
    "sources",
    "exported",
    "redirected",
    "container",
    "urls",
    "drivers",
    "redaction",
    "durations",
    "collection",
    "events",
    "results",
    "errors",
)
# Only what nobody has begun to use yet: the import of what is typed, inside ``if TYPE_CHECKING``, is free.
LIGHT = ("cli", "settings", "sources", "results", "errors", "events")
FILES = sorted(PACKAGE.rglob("*.py"))


def place(file: Path) -> str:
    """The entry of ORDER that a file belongs to."""
    relative = file.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


LIGHT_FILES = [file for file in FILES if place(file) in LIGHT]


def for_types_only(node: ast.AST) -> bool:
    """``if TYPE_CHECKING:``, whose imports never happen."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(file: Path, *, module_level: bool = False) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import that happens when the file runs; relative ones made absolute."""
    package = ("migrator", *file.relative_to(PACKAGE).parts[:-1])
    pending: list[ast.AST] = [ast.parse(file.read_text(), str(file))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            # ``from migrator import lock`` imports the module, ``from migrator.lock import held`` a name of it.
            yield from ((node.lineno, f"{source}.{name.name}") for name in node.names)
        inner = () if module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else (node,)
        for parent in inner:
            for child in ast.iter_child_nodes(parent):
                # The else branch of such an if does run.
                pending += child.orelse if for_types_only(child) and isinstance(child, ast.If) else [child]


def test_every_module_has_a_place_in_the_order() -> None:
    assert FILES
    assert {place(file) for file in FILES} <= set(ORDER)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_from_those_below_it(file: Path) -> None:
    mine = place(file)
    wrong = [
        f"{file}:{line} imports {name}"
        for line, name in imported(file)
        if name.startswith("migrator.")
        and (theirs := name.split(".")[1]) in ORDER
        and theirs != mine
        and ORDER.index(theirs) < ORDER.index(mine)
    ]
    assert not wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_the_environment_package_imports_alembic(file: Path) -> None:
    names = {name.split(".")[0] for _, name in imported(file)}
    assert place(file) == "environment" or "alembic" not in names


def test_each_light_module_is_there() -> None:
    assert set(LIGHT) == {place(file) for file in LIGHT_FILES}


@pytest.mark.parametrize("file", LIGHT_FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_of_every_start_imports_sqlalchemy_only_when_it_uses_it(file: Path) -> None:
    heavy = [
        f"{file}:{line} imports {module}"
        for line, module in imported(file, module_level=True)
        if module.split(".")[0] == "sqlalchemy"
    ]
    assert not heavy


def test_the_order_would_catch_an_import_upwards_in_any_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "report").mkdir()
    spellings = {
        "lock.py": "from migrator import job",
        "urls.py": "def f():\n    import migrator.job",
        "report/text.py": "from .. import job as run",
        "database.py": "try:\n    from .job import upgrade\nexcept ImportError: ...",
    }
    for name, text in spellings.items():
        (tmp_path / name).write_text(text)
        assert [module.split(".")[:2] for _, module in imported(tmp_path / name)] == [["migrator", "job"]]
    (tmp_path / "cli.py").write_text("if TYPE_CHECKING:\n    import sqlalchemy\n")
    assert list(imported(tmp_path / "cli.py")) == []
