"""The sections of the documentation that messages name, for people who have a pod's log and this image, and no more.

The pages are those of ``docs/``; a wheel has them beside the package's modules, a clone where they are written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

from migrator.errors import ConfigurationError

PAGES = ("recipes.md", "troubleshooting.md", "mysql.md")
"""The pages that messages name sections of, as pyproject.toml puts them into the wheel."""

_HEADING = re.compile(r"(##+) (.+)")
_LINK = re.compile(r"\[([^]]+)\]\((?:[\w./-]+\.md)?(?:#([\w-]+))?\)")


def explanation(topic: str) -> str:
    """The section with that anchor (``not-null``), in Markdown, its sections below included.

    :raises ConfigurationError: there is none of that name; says which are near.
    """
    every = sections()
    name = topic.rpartition("#")[2].strip().lower()
    if name not in every:
        near = difflib.get_close_matches(name, every, n=3) or list(every)
        raise ConfigurationError(
            f"there is nothing to explain about {topic}",
            next_step=f"There are: {', '.join(near)}; migrator explain lists all. Nothing was changed.",
        )
    return every[name]


def sections() -> Mapping[str, str]:
    """Every section by its anchor, in the order of the pages."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        open_sections: list[tuple[int, list[str]]] = []
        fenced = False
        for line in _text(page).splitlines():
            fenced ^= line.startswith("```")
            heading = None if fenced else _HEADING.fullmatch(line)
            if heading is not None:
                level = len(heading[1])
                open_sections = [one for one in open_sections if one[0] < level]
                open_sections.append((level, found.setdefault(anchor(heading[2]), [])))
            for _, lines in open_sections:
                lines.append(line if fenced else _LINK.sub(_without_link, line))
    return {name: "\n".join(lines).strip() for name, lines in found.items()}


def anchor(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _without_link(link: re.Match[str]) -> str:
    return f"{link[1]} (migrator explain {link[2]})" if link[2] else link[1]


def _text(page: str) -> str:
    package = Path(__file__).parent
    shipped = package / "pages" / page
    return (shipped if shipped.is_file() else package.parent / "docs" / page).read_text(encoding="utf-8")
