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
# In env.py: what can lead elsewhere than the URL and the literals say.
_LEADS_ELSEWHERE = (
    b"version_locations",
    b"script_location",
    b"search_path",
    b"schema_translate_map",
    b"connect_args",
    b"execution_options",
    b"get_x_argument",
    b"listens_for",
    b"do_connect",
)
_ENGINES = ("engine_from_config", "async_engine_from_config", "create_engine", "create_async_engine")


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
    table = _version_table(scripts / "env.py") if scripts is not None else None
    if scripts is None or table is None:
        return None
    graph = read_graph([scripts / "versions"])
    return None if graph.unread else Declared(graph, *table)


def _scripts(settings: Settings) -> Path | None:
    """The folder that ``script_location`` names, where it is a plain path."""
    ini = Path(settings.config or os.environ.get("ALEMBIC_CONFIG") or "alembic.ini")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if b"[tool.alembic" in _bytes_of(Path("pyproject.toml")) or ini.suffix == ".toml":
            return None
        parser.read_string(ini.read_text(encoding="utf-8"))
        section = dict(parser.items(settings.name))
    except (OSError, ValueError, configparser.Error):
        return None  # Alembic's own reading tells what is wrong
    if any(name in section for name in _OTHER_FOLDERS):
        return None
    location = section.get("script_location", "").replace("%(here)s", str(ini.absolute().parent))
    return Path(location) if location and "%" not in location and ":" not in location else None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _version_table(environment: Path) -> tuple[str, str | None] | None:
    """(table, schema) that every online ``configure`` call names in literals; None where one does not."""
    try:
        data = environment.read_bytes()
        if any(words in data for words in _LEADS_ELSEWHERE):
            return None
        tree = ast.parse(data)
    except (OSError, SyntaxError, ValueError):
        return None
    # A loop is over tenants or databases; an engine that is made elsewhere has options that are not seen here.
    if any(isinstance(node, (ast.For, ast.AsyncFor, ast.While)) for node in ast.walk(tree)):
        return None
    if not any(True for _ in _calls(tree, _ENGINES)):
        return None
    found: set[tuple[str, str | None]] = set()
    for call in (*_calls(tree, _ENGINES), *_calls(tree, ("configure",))):
        options = {keyword.arg: keyword.value for keyword in call.keywords}
        if None in options:
            return None
        if _name_of(call) != "configure" or ("url" in options and "connection" not in options):
            continue  # offline
        table = _literal(options.get("version_table"), USUAL_TABLE)
        schema = _literal(options.get("version_table_schema"), "")
        if table is None or schema is None:
            return None
        found.add((table or USUAL_TABLE, schema or None))
    return found.pop() if len(found) == 1 else None


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
