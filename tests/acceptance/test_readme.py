"""What the README shows is what the program prints."""

from __future__ import annotations

import re

import pytest

from migrator import explaining
from migrator.redaction import Redactor
from tests import autogenerate_document, harness, readme
from tests.harness import Server


@pytest.fixture(scope="module")
def made(server: Server) -> dict[str, str]:
    return dict(readme.made_blocks(server))


@pytest.mark.parametrize("name", ["run", "demo", "failure", "exit-codes", "settings"])
def test_a_block_of_the_readme_is_what_the_program_prints(made: dict[str, str], name: str) -> None:
    written = readme.written_blocks()[name]
    assert readme.normal(written) == readme.normal(made[name]), "make readme writes it anew"


@pytest.fixture(scope="module")
def made_of_autogenerate() -> dict[str, str]:
    return dict(autogenerate_document.made_blocks())


@pytest.mark.parametrize("name", ["written", "file", "pipeline", "models", "agreed"])
def test_a_block_about_autogenerate_is_what_the_program_prints(
    made_of_autogenerate: dict[str, str], name: str
) -> None:
    written = readme.written_blocks(autogenerate_document.DOCUMENT)[name]
    assert readme.normal(written) == readme.normal(made_of_autogenerate[name]), "make readme writes it anew"


def test_every_link_of_the_documents_leads_somewhere() -> None:
    documents = [harness.REPOSITORY / "README.md", *(harness.REPOSITORY / "docs").glob("*.md")]
    missing = []
    for document in documents:
        for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
            path, _, anchor = link.partition("#")
            if "://" in link:
                continue
            target = (document.parent / path) if path else document
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                missing.append(f"{document.name}: {link}")
    assert missing == []


def test_every_section_that_a_message_names_is_printed_by_the_program() -> None:
    named: list[str] = []
    for module in (harness.REPOSITORY / "migrator").rglob("*.py"):
        text = re.sub(r'"\s*f?"', "", module.read_text())
        assert not re.search(r"docs/[\w-]+\.md#", text), module.name
        named += re.findall(r"\(migrator explain ([\w-]+)\)", text)
    assert len(named) > 10
    assert set(named) <= set(explaining.sections())


def _anchors(document: harness.Path) -> set[str]:
    """Anchors as GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_password_of_an_example_hides_words_of_the_programs_own() -> None:
    """Whoever copies ``secret`` reads ``/run/***s`` in each message about a secret file."""
    passwords = set()
    for document in [harness.REPOSITORY / "README.md", *(harness.REPOSITORY / "docs").glob("*.md")]:
        passwords |= set(re.findall(r"\w+://\w+:([^@/\s%*…]+)@", document.read_text()))
    assert passwords - {"PASSWORD"}
    for password in passwords - {"PASSWORD"}:
        redactor = Redactor()
        redactor.add(password)
        own = "the secret file /run/secrets/database-url cannot be used; password authentication failed for user"
        assert redactor.redact(own) == own, password
