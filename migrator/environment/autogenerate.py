"""Alembic's autogenerate in ``env.py``: what it found, which of it looks like renames, and the file that it writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from alembic.autogenerate import RevisionContext, render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.config import Config
from alembic.ddl.mysql import MySQLImpl
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import immutabledict

from migrator.environment.differences import describe, flat, qualified, suspected_columns, suspected_tables
from migrator.environment.listing import relative
from migrator.environment.risks import earlier_facts
from migrator.errors import ConfigurationError, HistoryError
from migrator.results import Difference, Revisions, SuspectedRename, WrittenRevision

_ARGUMENTS = {
    "message": None,
    "sql": False,
    "head": "head",
    "splice": False,
    "branch_label": None,
    "version_path": None,
    "rev_id": None,
    "depends_on": None,
}
"""What ``alembic check`` hands to autogenerate; ``alembic revision`` has options for them."""


class Autogenerate:
    """What autogenerate found while ``env.py`` ran. A :class:`migrator.environment.state.Reading`.

    :param quiet: Alembic does not say itself which file it writes.
    """

    def __init__(self, *, quiet: bool = True) -> None:
        self._quiet = quiet
        self._contexts: list[MigrationContext] = []
        self._tables = 0

    def begin(self, config: Config, script: ScriptDirectory) -> dict[str, Any]:
        options = config.cmd_opts
        arguments = {name: getattr(options, name, default) for name, default in _ARGUMENTS.items()}
        # "check" has no such option, and many hooks ask: if config.cmd_opts.autogenerate.
        if options is not None:
            options.autogenerate = True
        self.config = config
        self._contexts = []
        self._tables = 0
        if self._quiet:
            script.messaging_opts = immutabledict({"quiet": True})  # type: ignore[assignment]
        self._revisions = RevisionContext(config, script, {**arguments, "autogenerate": True})
        return {"template_args": self._revisions.template_args, "revision_context": self._revisions}

    def read(self, current: Revisions, context: MigrationContext) -> None:
        """Compare.

        :raises ConfigurationError: ``env.py`` names no models.
        :raises HistoryError: the database is not at head.
        """
        models = context.opts.get("target_metadata")
        if models is None:
            raise ConfigurationError(
                "env.py tells Alembic of no models: there is nothing to compare the database with",
                details=("target_metadata, which it hands to context.configure(), is None",),
                next_step=(
                    "In env.py, import the models and set target_metadata = Base.metadata "
                    "(SQLModel: SQLModel.metadata; Flask-SQLAlchemy: db.metadata). Nothing was changed."
                ),
            )
        script = context.script
        assert script is not None
        if set(script.get_revisions(current)) != set(script.get_revisions("heads")):
            raise HistoryError(
                "the database is not up to date: autogenerate compares the models with the newest revision",
                details=(
                    f"it is at {', '.join(current) or 'base'}, the newest is {', '.join(script.get_heads())}",
                ),
                next_step=(
                    "migrator upgrade first; or use --scratch, which compares with a disposable database. "
                    "Nothing was changed."
                ),
            )
        self._contexts.append(context)
        self._tables += sum(len(one.tables) for one in _listed(models))
        self._revisions.run_autogenerate(current, context)

    @property
    def operations(self) -> list[Any]:
        """What ``upgrade()`` would do, over all files and targets, as the project's own hooks left it."""
        return [operation for container in self._containers() for operation in flat(container.ops)]

    @property
    def models_are_empty(self) -> bool:
        """The models that ``env.py`` names hold no table: usually because nobody imported them."""
        return self._tables == 0

    def differences(self) -> tuple[Difference, ...]:
        """Each operation in words; what several targets share is named once."""
        dialect = self._contexts[-1].dialect
        operations = self.operations
        facts = earlier_facts(operations)
        return tuple(dict.fromkeys(describe(operation, dialect, facts) for operation in operations))

    def overwritten(self) -> tuple[Difference, ...]:
        """What will be in no file: of several targets that share a function in it, Alembic writes the last one's."""
        dialect = self._contexts[-1].dialect
        facts = earlier_facts(self.operations)
        lost: dict[Difference, None] = {}
        for script in self._revisions.generated_revisions:
            of_token: dict[str, list[Difference]] = {}
            for container in script.upgrade_ops_list:
                found = [describe(operation, dialect, facts) for operation in flat(container.ops)]
                earlier = of_token.get(container.upgrade_token, [])
                lost.update(dict.fromkeys(one for one in earlier if one not in found))
                of_token[container.upgrade_token] = found
        return tuple(lost)

    def renames(self) -> tuple[SuspectedRename, ...]:
        """What looks like a rename, each once, tables first."""
        found: dict[SuspectedRename, None] = {}
        for container in self._containers():
            for drop, _add, rename in self._suspected(container):
                assert drop is not None
                found[rename] = None
        return tuple(sorted(found, key=lambda rename: (rename.kind != "table", rename.old_name)))

    def write(self) -> tuple[WrittenRevision, ...]:
        """Write the files, with a remark above each pair that looks like a rename.

        :raises Exception: what Alembic, the template or a hook of the project raises.
        """
        for container in self._containers():
            for drop, add, rename in self._suspected(container):
                _insert(container, (drop, add), Remark(_remark(rename)), above_block=rename.in_own_block)
        return revisions_in(list(self._revisions.generate_scripts()))

    def _containers(self) -> list[Any]:
        return [
            container
            for script in self._revisions.generated_revisions
            for container in script.upgrade_ops_list
        ]

    def _suspected(self, container: Any) -> list[tuple[Any, Any, SuspectedRename]]:
        context = self._contexts[-1]
        columns = [
            (drop, add, _column_rename(drop, add, match.why, context))
            for drop, add, match in suspected_columns(container.ops, context.dialect)
        ]
        tables = [
            (drop, add, _table_rename(drop, add, match.why, context))
            for drop, add, match in suspected_tables(container.ops, context.dialect)
        ]
        return [*tables, *columns]


class Remark(ops.MigrateOperation):
    """Comment lines between the operations of a revision file."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)


@renderers.dispatch_for(Remark)
def _render_remark(_context: AutogenContext, operation: Remark) -> list[str]:
    return [f"# {line}".rstrip() for line in operation.lines]


def revisions_in(scripts: object) -> tuple[WrittenRevision, ...]:
    """What Alembic's function for ``revision`` or ``merge`` returned, as files."""
    several = scripts if isinstance(scripts, list) else [scripts]
    return tuple(
        WrittenRevision(script.revision, relative(script.path), tuple(script._versioned_down_revisions))
        for script in several
        if isinstance(script, Script)
    )


def _listed(models: Any) -> Iterable[Any]:
    return models if isinstance(models, (list, tuple)) else [models]


def _column_rename(drop: Any, add: Any, why: str, context: MigrationContext) -> SuspectedRename:
    old, new = str(drop.column_name), str(add.column.name)
    return SuspectedRename(
        kind="column",
        table=qualified(drop.schema, drop.table_name),
        old=old,
        new=new,
        why=why,
        code=_alter(drop, old, new, context),
        undo=_alter(drop, new, old, context),
    )


def _alter(drop: Any, old: str, new: str, context: MigrationContext) -> tuple[str, ...]:
    if isinstance(context.impl, MySQLImpl):
        return _altered_whole(drop, old, new, context)
    prefix = context.opts.get("alembic_module_prefix") or ""
    arguments = [_quoted(old), f"new_column_name={_quoted(new)}"]
    schema = f"schema={_quoted(drop.schema)}" if drop.schema else ""
    table = _quoted(drop.table_name)
    if context.opts.get("render_as_batch"):
        place = ", ".join(filter(None, (table, schema)))
        return (
            f"with {prefix}batch_alter_table({place}) as batch_op:",
            f"    batch_op.alter_column({', '.join(arguments)})",
        )
    return (f"{prefix}alter_column({', '.join(filter(None, (table, *arguments, schema)))})",)


def _altered_whole(drop: Any, old: str, new: str, context: MigrationContext) -> tuple[str, ...]:
    """MySQL's CHANGE says the whole column anew: what is left out, NOT NULL for example, would be lost."""
    column = drop._reverse.column
    operation = ops.AlterColumnOp(
        drop.table_name,
        old,
        schema=drop.schema,
        existing_type=column.type,
        existing_nullable=column.nullable,
        existing_server_default=column.server_default,
        existing_comment=column.comment,
        modify_name=new,
    )
    text = render_op_text(AutogenContext(context), operation)
    return tuple(
        line.strip() if place == 0 else f"    {line.strip()}" for place, line in enumerate(text.splitlines())
    )


def _table_rename(drop: Any, add: Any, why: str, context: MigrationContext) -> SuspectedRename:
    prefix = context.opts.get("alembic_module_prefix") or ""
    old, new = str(drop.table_name), str(add.table_name)
    schema = f", schema={_quoted(drop.schema)}" if drop.schema else ""
    return SuspectedRename(
        kind="table",
        table=drop.schema or "",
        old=old,
        new=new,
        why=why,
        code=(f"{prefix}rename_table({_quoted(old)}, {_quoted(new)}{schema})",),
        undo=(f"{prefix}rename_table({_quoted(new)}, {_quoted(old)}{schema})",),
    )


def _quoted(text: str) -> str:
    """As Python code, in double quotes where that needs no escape."""
    return f'"{text}"' if text.isprintable() and not set(text) & {'"', "\\"} else repr(text)


def _remark(rename: SuspectedRename) -> list[str]:
    pair = f"{rename.kind} {rename.old_name}"
    instead = "take both out of the block, and write before it" if rename.in_own_block else "replace both by"
    return [
        f"migrator: {pair} looks renamed to {rename.new} ({rename.why}).",
        f"The drop and the add below would delete what is in it. If it was renamed, {instead}",
        *(f"    {line}" for line in rename.code),
        "and in downgrade() likewise" if rename.in_own_block else "and in downgrade() by",
        *(f"    {line}" for line in rename.undo),
    ]


def _insert(container: Any, pair: tuple[Any, Any], remark: Remark, *, above_block: bool) -> bool:
    """Put ``remark`` before whichever of the pair comes first in ``container`` or in one inside it.

    :param above_block: before the block of a table's operations that holds it.
    """
    for place, operation in enumerate(container.ops):
        inside = isinstance(operation, ops.OpContainer)
        if operation in pair or (above_block and inside and any(one in pair for one in operation.ops)):
            container.ops.insert(place, remark)
            return True
        if inside and _insert(operation, pair, remark, above_block=above_block):
            return True
    return False
