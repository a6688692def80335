"""An application whose migrations are promoted by the files of docs/other-ci.md, and a registry with a password."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness import (
    NO_VARIABLES,
    REPOSITORY,
    Completed,
    Database,
    Project,
    checked,
    clean_environment,
)
from tests.image.engine import BUILDING
from tests.readme import unfenced, written_blocks

DOCUMENT = REPOSITORY / "docs" / "other-ci.md"
ENVIRONMENTS = ("dev", "test", "prod")
TOOLS = ("docker", "crane", "cosign")
REGISTRY_USER, REGISTRY_PASSWORD = "pipeline", "registry-secret"
HTPASSWD = f"{REGISTRY_USER}:$2b$04$GRZl2hVwFPWRMWm491pn3emkeBFadqLw4H/42cSdGF128DESGysya\n"
"""What ``htpasswd -B -C 4`` makes of the password; each request pays for it, and a client makes many."""


def block(name: str) -> str:
    """A block of the page without its fence."""
    return unfenced(written_blocks(DOCUMENT)[name])


@dataclass
class Shop:
    """A checkout in a runner's hands: the project, the page's files, three databases, the tools, and who sees what.

    :ivar urls: of each environment ``dev``, ``test``, ``prod``, and of those who may only read: ``dev-plan`` …
    :ivar variables: what every run gets.
    """

    project: Project
    name: str
    home: Path
    databases: dict[str, Database]
    urls: dict[str, str]
    passwords: dict[str, str]
    variables: dict[str, str]
    arguments: Path = field(init=False)
    """Every command line of docker, crane and cosign, as other users of the machine could have seen it."""

    def __post_init__(self) -> None:
        self.arguments = self.home / "arguments"
        self.arguments.touch()
        shims = self.home / "bin"
        shims.mkdir()
        for tool in TOOLS:
            real = shutil.which(tool)
            (shims / tool).write_text(
                f'#!/bin/sh\nprintf "%s\\n" "{tool} $*" >>{self.arguments}\nexec {real} "$@"\n'
            )
            (shims / tool).chmod(0o755)
        path = clean_environment()["PATH"]
        self.variables |= {"PATH": f"{shims}:{path}", "HOME": str(self.home), **BUILDING}
        self.write("promote.sh", block("script")).chmod(0o755)
        self.write(".gitlab-ci.yml", block("gitlab-ci"))
        self.write(".gitignore", ".gitlab-ci-local\nimage.env\n")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("remote", "add", "origin", "https://gitlab.example.com/example/shop.git")
        self.commit()

    def write(self, name: str, text: str) -> Path:
        """Write a file of the checkout, as it is."""
        file = self.project.path / name
        file.write_text(text)
        return file

    def run(
        self, *command: str, env: Mapping[str, str] = NO_VARIABLES, check: bool = True, timeout: float = 300
    ) -> Completed:
        """Run any command in the checkout, with the variables; afterwards no secret is in its output."""
        return self.run_alone(*command, env={**self.variables, **env}, check=check, timeout=timeout)

    def run_alone(
        self, *command: str, env: Mapping[str, str], check: bool = True, timeout: float = 600
    ) -> Completed:
        """The same with no other variables than these."""
        done = subprocess.run(
            command,
            cwd=self.project.path,
            env=clean_environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        completed = checked(Completed(done.returncode, done.stdout, done.stderr), check)
        for place in (completed.output, self.arguments.read_text()):
            assert not [what for what, secret in self.passwords.items() if secret in place], completed.output
        return completed

    def git(self, *args: str) -> str:
        """``git ARGS``; what it wrote on standard output."""
        identity = ("-c", "user.name=A developer", "-c", "user.email=developer@example.com")
        return self.run("git", *identity, *args).stdout.strip()

    def commit(self) -> str:
        """Commit everything; the commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "a change")
        return self.git("rev-parse", "HEAD")

    def promote(self, *args: str, env: Mapping[str, str] = NO_VARIABLES, check: bool = True) -> Completed:
        """``./promote.sh ARGS``."""
        return self.run("./promote.sh", *args, env=env, check=check)

    def build(self) -> str:
        """Build; the image's reference."""
        return self.promote("build").stdout.strip()

    def migrate(self, environment: str, image: str, *, check: bool = True) -> Completed:
        """Migrate, with the owner's URL."""
        url = {"MIGRATOR_DATABASE_URL": self.urls[environment]}
        return self.promote("migrate", environment, image, env=url, check=check)

    def crane(self, *args: str, check: bool = True) -> str:
        """``crane ARGS`` with the right to push; what it wrote on standard output."""
        return self.run("crane", *args, env={"DOCKER_CONFIG": str(self.home / "push")}, check=check).stdout

    def tagged(self, environment: str) -> str:
        """The image that the environment's tag is at; empty where there is no such tag."""
        digest = self.crane("digest", f"{self.name}:{environment}", check=False).strip()
        return f"{self.name}@{digest}" if digest else ""

    @property
    def at(self) -> dict[str, list[str]]:
        """The revisions of each database."""
        return {environment: database.revisions for environment, database in self.databases.items()}
