from alembic.operations import Operations


def include_object(object_, name, type_, reflected, compare_to):
    return not (type_ == "table" and name == "migration_log")


def include_name(name, type_, parent_names):
    return name in (None, "public") if type_ == "schema" else True


def render_item(type_, object_, autogen_context):
    return False


def no_empty_revision(context, revision, directives):
    autogenerating = getattr(context.config.cmd_opts, "autogenerate", False)
    if autogenerating and directives[0].upgrade_ops.is_empty():
        directives[:] = []


@Operations.register_operation("grant_select")
class GrantSelect:
    """An operation of the project's own."""

    def __init__(self, table):
        self.table = table

    @classmethod
    def grant_select(cls, operations, table):
        return operations.invoke(cls(table))


@Operations.implementation_for(GrantSelect)
def grant_select(operations, operation):
    operations.execute(f"GRANT SELECT ON {operation.table} TO PUBLIC")
