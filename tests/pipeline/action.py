"""Steps with the composite action: a workflow of them, and what became of each; one that a test can cancel."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import harness
from tests.harness import Database
from tests.image.engine import Owned, build_from, docker
from tests.pipeline.act import Caller, Run
from tests.pipeline.conftest import Registry

ACTION = harness.REPOSITORY / ".github" / "actions" / "migrate"
DOCKERFILE = "FROM migrator:runner\nCOPY alembic.ini /app/\nCOPY migrations /app/migrations\n"

CHECKOUT = "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"
# The reports are gone with the run.
TELL = """\
report=null
[ -z "$REPORT" ] || report=$(cat "$REPORT")
jq --null-input --compact-output --raw-output --argjson report "$report" \
  '{outcome: env.OUTCOME, outputs: (env.OUTPUTS | fromjson), report: $report} | "told \\(.)"'
"""


def pushed(owned: Owned, registry: Registry, name: str, text: str, folder: Path) -> str:
    """Build an image from the text of a Dockerfile and push it; its tag. It leaves the engine with ``owned``."""
    tag = f"{registry.host}/{name}:main"
    owned.callback(docker, "image", "rm", "--force", tag, check=False)
    build_from(tag, text, folder)
    docker("push", tag)
    return tag


@dataclass(frozen=True)
class Step:
    """A step with the action, for a workflow."""

    image: str
    given: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def workflow(steps: Sequence[Step], on: str = "push") -> str:
    """A workflow that goes through the steps, whatever comes of them, and tells the outputs of each."""
    listed: list[Any] = [{"uses": CHECKOUT, "with": {"persist-credentials": False}}]
    for number, step in enumerate(steps):
        listed += [
            {
                "id": f"step{number}",
                "uses": "./.github/actions/migrate",
                "continue-on-error": True,
                "env": dict(step.env),
                "with": {"image": step.image, **step.given},
            },
            {
                "if": "always()",
                "env": {
                    "OUTPUTS": f"${{{{ toJSON(steps.step{number}.outputs) }}}}",
                    "OUTCOME": f"${{{{ steps.step{number}.outcome }}}}",
                    "REPORT": f"${{{{ steps.step{number}.outputs.report }}}}",
                },
                "run": TELL,
            },
        ]
    job = {"runs-on": "ubuntu-latest", "steps": listed}
    return yaml.safe_dump({"on": on, "permissions": {}, "jobs": {"migrate": job}}, sort_keys=False)


@dataclass(frozen=True)
class Ended:
    """What became of a step."""

    run: Run
    outcome: str
    outputs: Mapping[str, str]
    said: str
    annotations: Sequence[Mapping[str, Any]]
    summary: str
    report: Any

    @property
    def error(self) -> str:
        """The message of its only annotation."""
        (one,) = self.annotations
        return unescaped(one["arg"])


def unescaped(text: str) -> str:
    for code, char in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


def take(caller: Caller, *steps: Step, **more: Any) -> list[Ended]:
    """Run the steps in one job; what became of each."""
    caller.write(".github/workflows/try.yml", workflow(steps, more.get("event", "push")))
    caller.commit()
    run = caller.act("try.yml", **more)
    found: list[Ended] = []
    lines: list[dict[str, Any]] = []
    for line in run.lines:
        lines.append(line)
        if line.get("raw_output") and line["msg"].startswith("told "):
            told = json.loads(line["msg"].removeprefix("told "))
            said = "".join(one["msg"] for one in lines if one.get("raw_output"))
            errors = [one for one in lines if one.get("command") == "error"]
            # act shows that of a composite action twice: as its step's, and as its own.
            summary = next((one["content"] for one in lines if one.get("command") == "summary"), "")
            found.append(Ended(run, told["outcome"], told["outputs"], said, errors, summary, told["report"]))
            lines = []
    assert len(found) == len(steps), run.output
    return found


DATABASE = {"MIGRATOR_DATABASE_URL": "${{ secrets.MIGRATOR_DATABASE_URL }}"}


def url_of(database: Database) -> dict[str, str]:
    """The secret that :data:`DATABASE` reads."""
    return {"MIGRATOR_DATABASE_URL": database.url}


def facts(ended: Ended) -> dict[str, str]:
    """The outputs but for the path of the report."""
    return {name: value for name, value in ended.outputs.items() if name != "report"}


class Cancellable:
    """The action's step as a runner starts it, so that a test can do what the runner does to a cancelled one."""

    def __init__(self, folder: Path, image: str, env: Mapping[str, str]) -> None:
        self._folder = folder
        self.run_id = secrets.token_hex(4)
        (step,) = yaml.safe_load((ACTION / "action.yml").read_text())["runs"]["steps"]
        inputs = yaml.safe_load((ACTION / "action.yml").read_text())["inputs"]
        (folder / "step.sh").write_text(step["run"])
        for name in ("output", "summary"):
            (folder / name).touch()
        given = {
            f"INPUT_{name.upper().replace('-', '_')}": one.get("default", "") for name, one in inputs.items()
        }
        self.process = harness.start(
            *("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(folder / "step.sh")),
            env={
                **given,
                "INPUT_IMAGE": image,
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTION_PATH": str(ACTION),
                "GITHUB_OUTPUT": str(folder / "output"),
                "GITHUB_STEP_SUMMARY": str(folder / "summary"),
                "GITHUB_WORKSPACE": str(folder),
                "GITHUB_RUN_ID": self.run_id,
                "RUNNER_TEMP": str(folder),
                **env,
            },
            cwd=folder,
        )

    @property
    def outputs(self) -> dict[str, str]:
        lines = (self._folder / "output").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def summary(self) -> str:
        return (self._folder / "summary").read_text()
