"""What an ordinary project declares about its history, read without Alembic and without running ``env.py``.

A waiter polls from hundreds of pods, on a tenth of a CPU each: importing Alembic and the application that
``env.py`` imports is most of what it would do. Whatever is not plain makes the answer None; then ``env.py`` is asked.
"""

from __future__ import annotations

import ast
import configparser
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.revisions import Graph, read_graph
from migrator.settings import Settings

USUAL_TABLE = "alembic_version"

_OTHER_FOLDERS = ("version_locations", "recursive_version_locations", "sourceless")
# In env.py, in any case of letters: what can lead elsewhere than the URL and the literals say.
_LEADS_ELSEWHERE = (
    b"version_locations",
    b"script_location",
    b"search_path",
    b"schema_translate_map",
    b"default_schema_name",
    b"connect_args",
    b"creator",
    b"execution_options",
    b"get_x_argument",
    b"get_context",
    b"do_connect",
    b"listen",
)
_ENGINES = ("engine_from_config", "async_engine_from_config", "create_engine", "create_async_engine")
_ENGINE_PACKAGES = ("sqlalchemy", "sqlmodel")
# What a connection or an engine does in an env.py that runs no statement of its own: SET ROLE, USE, SET SCHEMA …
_HARMLESS = (
    "begin",
    "close",
    "commit",
    "connect",
    "dialect",
    "dispose",
    "rollback",
    "run_sync",
    "sync_engine",
)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Declared:
    """A project of one database and one version table.

    :ivar graph: its revisions; none of the files needed an import.
    :ivar schema: None: where the connection's own rules lead.
    """

    graph: Graph
    version_table: str
    schema: str | None


def declared(settings: Settings) -> Declared | None:
    """What ``alembic.ini`` and the text of ``env.py`` say; None where that is not conclusive, or more than this."""
    if settings.database is None or settings.x or settings.allow_other_targets or settings.lock == "none":
        return None
    scripts = _scripts(settings)
    table = _version_table(scripts / "env.py", settings.name) if scripts is not None else None
    if scripts is None or table is None:
        return None
    graph = read_graph([scripts / "versions"])
    return None if graph.unread else Declared(graph, *table)


def _scripts(settings: Settings) -> Path | None:
    """The folder that ``script_location`` names, where it is a plain path."""
    ini = Path(settings.config or os.environ.get("ALEMBIC_CONFIG") or "alembic.ini")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if ini.suffix == ".toml" or _has_alembic(Path("pyproject.toml")):
            return None
        parser.read_string(ini.read_text(encoding="utf-8"))
        section = dict(parser.items(settings.name))
    except (OSError, ValueError, configparser.Error):
        return None  # Alembic's own reading tells what is wrong
    if any(name in section for name in _OTHER_FOLDERS):
        return None
    location = section.get("script_location", "").replace("%(here)s", str(ini.absolute().parent))
    return Path(location) if location and "%" not in location and ":" not in location else None


def _has_alembic(pyproject: Path) -> bool:
    try:
        content = pyproject.read_bytes()
    except FileNotFoundError:
        return False
    if b"alembic" not in content:
        return False
    import tomllib

    return "alembic" in tomllib.loads(content.decode()).get("tool", {})


def _version_table(environment: Path, section: str) -> tuple[str, str | None] | None:
    """(table, schema) that every online ``configure`` call names in literals; None where one does not."""
    try:
        data = environment.read_bytes()
        words = data.lower()
        if any(word in words for word in _LEADS_ELSEWHERE):
            return None
        tree = ast.parse(data)
    except (OSError, SyntaxError, ValueError):
        return None
    engines = list(_calls(tree, _ENGINES))
    # A second engine may be a second database; one that is made elsewhere has options that are not seen here.
    if len(engines) != 1 or not _of_sqlalchemy(engines[0], tree) or not _of_the_section(tree, section):
        return None
    configures = _online(tree)
    if not configures or not _once(tree) or not _left_alone(tree, engines[0], configures):
        return None
    if any(keyword.arg is None for call in (*engines, *configures) for keyword in call.keywords):
        return None
    found: set[tuple[str, str | None]] = set()
    for call in configures:
        options = {keyword.arg: keyword.value for keyword in call.keywords}
        table = _literal(options.get("version_table"), USUAL_TABLE)
        schema = _literal(options.get("version_table_schema"), "")
        if table is None or schema is None:
            return None
        found.add((table or USUAL_TABLE, schema or None))
    return found.pop() if len(found) == 1 else None


def _online(tree: ast.AST) -> list[ast.Call]:
    """The calls of Alembic's ``context.configure`` with a connection; none where it is handed on uncalled."""
    names = {name for name, origin in _imported(tree) if origin == "alembic.context"}
    called = {id(call.func) for call in _calls(tree, ("configure",))}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "configure" and id(node) not in called:
            return []
    for call in _calls(tree, ("configure",)):
        options = {keyword.arg for keyword in call.keywords}
        if "connection" not in options and None not in options and not call.args:
            continue  # offline, or of another library
        of = call.func.value if isinstance(call.func, ast.Attribute) else None
        if not isinstance(of, ast.Name) or of.id not in names or call.args:
            return []
        found.append(call)
    return found


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(name in the file, what it stands for) of each import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((one.asname or one.name, f"{node.module}.{one.name}") for one in node.names)
        elif isinstance(node, ast.Import):
            for one in node.names:
                yield one.asname or one.name.partition(".")[0], one.name


def _of_sqlalchemy(call: ast.Call, tree: ast.AST) -> bool:
    """The application may have a ``create_engine`` of its own, with options that are not seen here."""
    of: ast.expr = call.func
    while isinstance(of, ast.Attribute):
        of = of.value
    origins = {origin for name, origin in _imported(tree) if isinstance(of, ast.Name) and name == of.id}
    return bool(origins) and all(origin.partition(".")[0] in _ENGINE_PACKAGES for origin in origins)


def _of_the_section(tree: ast.AST, section: str) -> bool:
    """No other section, and no other URL than ``sqlalchemy.url`` in it, is read by its name."""
    for call in _calls(tree, ("get_section", "get_section_option")):
        if call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value != section:
            return False
    for call in _calls(tree, ("engine_from_config", "async_engine_from_config")):
        prefixes = [*call.args[1:], *(one.value for one in call.keywords if one.arg == "prefix")]
        if any(_literal(prefix, "") != "sqlalchemy." for prefix in prefixes):
            return False
    return True


def _once(tree: ast.AST) -> bool:
    """What makes the engine and configures runs once: no loop, no function of it named twice, or handed to ``map``."""
    functions = {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    reaching = {name for name, node in functions.items() if any(_calls(node, (*_ENGINES, "configure")))}
    while more := {
        name
        for name, node in functions.items()
        if name not in reaching and any(one.id in reaching for one in _names(node))
    }:
        reaching |= more
    for node in ast.walk(tree):
        if isinstance(node, _LOOPS):
            return False
        if isinstance(node, _COMPREHENSIONS) and any(one.id in reaching for one in _names(node)):
            return False
    called = {id(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call)}
    called |= {id(argument) for call in _calls(tree, ("run_sync",)) for argument in call.args}
    named = [one for one in _names(tree) if one.id in reaching]
    return all(id(one) in called for one in named) and len(named) == len({one.id for one in named})


def _left_alone(tree: ast.AST, engine: ast.Call, configures: list[ast.Call]) -> bool:
    """Nobody else gets the engine or the connection, and no statement is run on it."""
    held = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(one is engine for one in ast.walk(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    handed: set[int] = set()
    for call in configures:
        for keyword in call.keywords:
            if keyword.arg == "connection":
                if not isinstance(keyword.value, ast.Name):
                    return False
                held.add(keyword.value.id)
                handed.add(id(keyword.value))
    for node in ast.walk(tree):
        if isinstance(node, (ast.With, ast.AsyncWith)):
            held |= {
                item.optional_vars.id
                for item in node.items
                if isinstance(item.optional_vars, ast.Name) and _holds(item.context_expr, held)
            }
    local = {
        node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _HARMLESS:
            handed.add(id(node.value))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in (*local, "isinstance")
        ):
            handed |= {id(argument) for argument in node.args}
        elif isinstance(node, ast.Compare):
            handed.add(id(node.left))
    return all(id(one) in handed for one in _names(tree) if one.id in held)


def _holds(node: ast.expr, held: set[str]) -> bool:
    return any(one.id in held for one in _names(node))


def _names(tree: ast.AST) -> Iterator[ast.Name]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))


def _literal(node: ast.expr | None, default: str) -> str | None:
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return default
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _calls(tree: ast.AST, names: tuple[str, ...]) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name_of(node) in names)


def _name_of(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
