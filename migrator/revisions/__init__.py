"""The revision graph read statically: no revision file is imported, and neither is Alembic.

Measured: importing 5,000 revision files of 4 kB takes about 4 s; reading what stands before their first
function takes about 0.3 s and says the same about the graph.
"""

from migrator.revisions.functions import unwritten
from migrator.revisions.graph import Graph, GraphProblem, ProblemKind, read_graph
from migrator.revisions.listing import list_files
from migrator.revisions.reading import RevisionFile, read_head, syntax_problem
from migrator.revisions.wording import database_ahead, history_error, shown_path

__all__ = [
    "Graph",
    "GraphProblem",
    "ProblemKind",
    "RevisionFile",
    "database_ahead",
    "history_error",
    "list_files",
    "read_graph",
    "read_head",
    "shown_path",
    "syntax_problem",
    "unwritten",
]
