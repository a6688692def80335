"""One process of the command line: its streams, its mask for secrets, its report and its exit code."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO

from migrator.errors import ConfigurationError, ExitCode, Interrupted, MigratorError
from migrator.loading import load_settings
from migrator.redaction import RedactingStream, Redactor
from migrator.report import Report
from migrator.report.output import discard, on_github, without_commands
from migrator.settings import Settings


def open_closed_streams() -> None:
    """Give the process the three standard streams where it was started without (``>&-``, some supervisors).

    Otherwise the next descriptor that is opened, a connection to the database, takes the place of one.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def close_streams() -> None:
    """Flush standard output for the last time: Python's own flush at exit makes 120 of every exit code."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        discard(sys.stdout)


def end_process(code: int) -> NoReturn:
    """Exit with ``code``, whatever threads of ours are still in a driver.

    Python's own end takes the interpreter away from under them: one that was just then connecting to cancel a
    statement made of exit code 143 a SIGSEGV, once in some ten runs (measured with PyMySQL on Python 3.11).
    """
    deadline = time.monotonic() + _FAREWELL_SECONDS
    for thread in threading.enumerate():
        if thread.name.startswith("migrator-"):
            thread.join(max(0.0, deadline - time.monotonic()))
    if any(thread.name.startswith("migrator-") for thread in threading.enumerate()):
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


_FAREWELL_SECONDS = 0.2


class Process:
    """What a subcommand works with.

    While it runs, standard output leads to standard error, for Python and for the programs that it starts: what
    ``env.py``, revisions and hooks print must not get into the answer. Both streams of Python mask every password
    that is known.
    """

    def __init__(self, command: str, settings: Settings, redactor: Redactor) -> None:
        self.settings = settings
        self.redactor = redactor
        self.stdout, self.stderr = _set_apart(sys.stdout), sys.stderr
        for stream in (self.stdout, self.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")  # LC_ALL=C must not end a migration
        self.report = _report(
            command,
            redactor,
            log_format=settings.log_format,
            json_output=settings.json_output,
            verbose=settings.verbose,
            stdout=self.stdout,
        )

    @property
    def live(self) -> bool:
        """Whether lines that are drawn over are wanted."""
        return self.settings.log_format == "text" and self.stderr.isatty()

    def answered(self) -> ExitCode:
        """The answer on standard output is complete.

        :raises ConfigurationError: it could not be written. A reader that had enough of it is no failure.
        """
        try:
            self.stdout.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            discard(self.stdout)
            raise ConfigurationError(
                f"the answer could not be written to standard output: {error}",
                next_step="Make room, or write it elsewhere. Nothing was changed.",
            ) from error
        return ExitCode.OK

    def give_up(self, reason: MigratorError) -> None:
        """Say why the process ends now; called from the monitor thread just before it does."""
        self.report.failed(reason)
        self.report.close()


def run_command(
    command: str,
    options: Mapping[str, Any],
    work: Callable[[Process], ExitCode],
    *,
    settings_needed: bool = True,
) -> ExitCode:
    """Do ``work`` with the settings that ``options`` and the environment give; the exit code.

    :param settings_needed: False: where the environment's are wrong, ``options`` alone do.

    Every failure is reported here, once: as people's text, JSON, annotation and termination message.
    """
    redactor = Redactor()
    try:
        settings = _settings(options, needed=settings_needed)
    except MigratorError as error:
        _report_without_settings(command, redactor, options, error)
        return error.exit_code
    with settings.secrets_told_to(redactor.add), _masked(process := Process(command, settings, redactor)):
        try:
            code = work(process)
        except MigratorError as error:
            process.report.failed(error)
            code = error.exit_code
        except BrokenPipeError:
            discard(process.stdout)  # whoever read the answer had enough of it
            code = ExitCode.OK
        except KeyboardInterrupt:
            process.report.failed(Interrupted("stopped by a KeyboardInterrupt"))
            code = ExitCode.INTERRUPTED
        except SystemExit as ended:  # Alembic's own parser of arguments, which has said why
            code = ExitCode.OK if ended.code in (None, 0) else ExitCode.USAGE
        except BaseException as error:
            process.report.failed(_bug(error))
            code = ExitCode.BUG
        finally:
            process.report.close()
    return code


def _settings(options: Mapping[str, Any], *, needed: bool) -> Settings:
    try:
        return load_settings(options)
    except ConfigurationError:
        if needed:
            raise
    return load_settings(options, environ={}, directory=Path(os.devnull))


def report_wrong_usage(path: str, message: str, *, json_output: bool) -> None:
    """Say that a command line makes no sense, in the same forms as any other failure.

    :param path: the command with its subcommand, ``migrator upgrade``.
    :param message: may quote an argument, and that may be a URL that belongs nowhere near a command line.
    """
    error = ConfigurationError(message, next_step=f"{path} --help lists what there is. Nothing was changed.")
    command = path.rpartition(" ")[2]
    _report_without_settings(command, Redactor(), {"json_output": json_output}, error)


def _report(
    command: str,
    redactor: Redactor,
    *,
    log_format: str,
    json_output: bool,
    verbose: bool,
    stdout: TextIO | None = None,
) -> Report:
    return Report.for_process(
        command=command,
        log_format=log_format,
        json_output=json_output,
        verbose=verbose,
        redact=redactor.redact,
        stdout=stdout or sys.stdout,
        stderr=sys.stderr,
        environ=os.environ,
    )


def _report_without_settings(
    command: str, redactor: Redactor, options: Mapping[str, Any], error: MigratorError
) -> None:
    """Say that the settings are wrong, in the form that was asked for as far as that can be known."""
    log_format = options.get("log_format") or os.environ.get("MIGRATOR_LOG_FORMAT")
    report = _report(
        command,
        redactor,
        log_format="json" if log_format == "json" else "text",
        json_output=bool(options.get("json_output") or os.environ.get("MIGRATOR_JSON")),
        verbose=False,
    )
    report.failed(error)
    report.close()


def _set_apart(stream: TextIO) -> TextIO:
    """The same output by a descriptor that no started program inherits; ``stream`` itself where that cannot be."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError):  # closed, or no file: a test's
        return stream
    return open(descriptor, "w", encoding=stream.encoding, errors=stream.errors)


@contextlib.contextmanager
def _masked(process: Process) -> Iterator[None]:
    # What the project prints is no command to the runner, which migrator's own annotations are.
    quote = without_commands if on_github(os.environ) else None
    masked = RedactingStream(process.stderr, process.redactor, quote)
    stdout = sys.stdout
    sys.stdout = sys.stderr = masked
    apart = process.stdout is not stdout
    try:
        if apart:
            with contextlib.suppress(OSError):  # there is no standard error
                os.dup2(2, stdout.fileno())
        yield
    finally:
        with contextlib.suppress(Exception):
            masked.finish()
        sys.stdout, sys.stderr = stdout, process.stderr
        if apart:
            try:
                process.stdout.flush()
            except (OSError, ValueError):
                discard(process.stdout)
            os.dup2(process.stdout.fileno(), stdout.fileno())


def _bug(error: BaseException) -> MigratorError:
    bug = MigratorError(
        f"{type(error).__name__}: {error}",
        next_step="This is a bug in migrator: please report it with the traceback.",
    )
    bug.__cause__ = error
    return bug
