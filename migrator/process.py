"""One process of the command line: its streams, its mask for secrets, its report and its exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from migrator.errors import ConfigurationError, ExitCode, MigratorError
from migrator.redaction import RedactingStream, Redactor
from migrator.report import Report
from migrator.settings import Settings, load_settings


class Process:
    """What a subcommand works with.

    While it runs, ``sys.stdout`` leads to standard error: what ``env.py`` and the revisions print must not get
    into the answer. Both streams mask every password that is known.
    """

    def __init__(self, command: str, settings: Settings, redactor: Redactor) -> None:
        self.command = command
        self.settings = settings
        self.redactor = redactor
        self.stdout, self.stderr = sys.stdout, sys.stderr
        self.report = Report.for_process(
            command=command,
            log_format=settings.log_format,
            json_output=settings.json_output,
            verbose=settings.verbose,
            redact=redactor.redact,
            stdout=self.stdout,
            stderr=self.stderr,
            environ=os.environ,
        )

    @property
    def live(self) -> bool:
        """Whether lines that are drawn over are wanted."""
        return self.settings.log_format == "text" and self.stderr.isatty()

    def give_up(self, reason: MigratorError) -> None:
        """Say why the process ends now; called from the monitor thread just before it does."""
        self.report.failed(reason)
        self.report.close()


def run_command(command: str, options: Mapping[str, Any], work: Callable[[Process], ExitCode]) -> ExitCode:
    """Do ``work`` with the settings that ``options`` and the environment give; the exit code.

    Every failure is reported here, once: as people's text, JSON, annotation and termination message.
    """
    redactor = Redactor()
    plain = _plain_settings()
    try:
        settings = load_settings(options)
        for secret, never in settings.secrets():
            redactor.add(secret, never=never)
    except MigratorError as error:
        process = Process(command, plain, redactor)
        process.report.failed(error)
        process.report.close()
        return error.exit_code
    process = Process(command, settings, redactor)
    with _masked(process):
        try:
            code = work(process)
        except MigratorError as error:
            process.report.failed(error)
            code = error.exit_code
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        except Exception as error:
            process.report.failed(_bug(error))
            process.stderr.write(redactor.redact(traceback.format_exc()))
            code = ExitCode.BUG
        finally:
            process.report.close()
    return code


def _plain_settings() -> Settings:
    """Enough settings to report that the real ones are wrong, in the form that was asked for."""
    wanted = {
        name: os.environ[variable]
        for name, variable in (("log_format", "MIGRATOR_LOG_FORMAT"),)
        if os.environ.get(variable) in ("text", "json")
    }
    if "--json" in sys.argv:
        wanted["json_output"] = "yes"
    return load_settings(wanted, environ={}, directory=None, files=False)


@contextlib.contextmanager
def _masked(process: Process) -> Any:
    masked = RedactingStream(process.stderr, process.redactor)
    sys.stdout = sys.stderr = masked
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            masked.flush()
        sys.stdout, sys.stderr = process.stdout, process.stderr


def _bug(error: Exception) -> MigratorError:
    return MigratorError(
        f"{type(error).__name__}: {error}",
        next_step="This is a bug in migrator: please report it with the traceback below.",
    )


__all__ = ["ConfigurationError", "Process", "run_command"]
