"""The functions that Python programs call. They return or raise; nothing is printed and nothing exits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from migrator.errors import MigratorError, VerificationFailed
from migrator.events import Reporter, silent

if TYPE_CHECKING:
    from migrator.redaction import Redactor
    from migrator.results import Difference, RunResult, Status
    from migrator.settings import Settings

Result = TypeVar("Result")


def upgrade(
    revision: str = "head", *, settings: Settings | None = None, on_event: Reporter = silent, **options: Any
) -> RunResult:
    """Bring the database to ``revision``, once, under the run lock, and prove it.

    May be called from any thread, and from code that runs inside an event loop (which then stands still until
    it is done: ``await migrator.aio.upgrade()`` does not block it). In the main thread SIGTERM and SIGINT stop
    the run and raise :class:`Terminated` or :class:`Interrupted`. Alembic allows one run at a time in a
    process, so concurrent calls take turns.

    :param revision: as for ``alembic upgrade``: an id, ``head``, ``heads``, ``+1``, ``label@head``.
    :param settings: from :func:`migrator.load_settings`; None: read as the command line does.
    :param on_event: called with each event of :mod:`migrator.events`, from several threads; must not raise.
    :param options: single settings by name (``database_url=…``, ``wait_timeout=30``).
    :raises MigratorError: one subclass for each kind of failure; ``error.result`` says what had been done.
    """

    def work(chosen: Settings, redactor: Redactor) -> RunResult:
        from migrator.job import Order, run

        return run(Order.upgrade(revision), chosen, on_event, learn_secret=redactor.add)

    return _call(work, settings, options)


def wait(
    for_: Literal["connection", "head"] = "connection",
    *,
    settings: Settings | None = None,
    on_event: Reporter = silent,
    **options: Any,
) -> None:
    """Return when the database answers, or when it is at this image's head revision.

    :raises DatabaseUnreachable: it did not answer within ``wait_timeout`` seconds.
    :raises NotAtHead: it answered, and was not at head within that time.
    :raises MigratorError: waiting is in vain: a wrong password, a database that is ahead.
    """
    if for_ not in ("connection", "head"):
        raise ValueError(f"cannot wait for {for_!r}: for_ is 'connection' or 'head'")

    def work(chosen: Settings, _: Redactor) -> None:
        from migrator import waiting

        if for_ == "head":
            waiting.wait_for_head(chosen, on_event)
        else:
            waiting.wait_for_connection(chosen, on_event)

    _call(work, settings, options)


def status(*, settings: Settings | None = None, on_event: Reporter = silent, **options: Any) -> Status:
    """Where the database stands against the revisions of this image. Changes nothing.

    :raises MigratorError: the database cannot be reached or read.
    """

    def work(chosen: Settings, _: Redactor) -> Status:
        from migrator import inspection

        return inspection.status(chosen, on_event)

    return _call(work, settings, options)


def verify(*, settings: Settings | None = None, on_event: Reporter = silent, **options: Any) -> Status:
    """As :func:`status`, for callers that go on only if the database is at head.

    :raises VerificationFailed: it is not; the message says where it is.
    :raises MigratorError: it is ahead and ``allow_ahead`` was not set, or cannot be reached or read.
    """

    def work(chosen: Settings, _: Redactor) -> Status:
        from migrator import inspection
        from migrator.waiting import satisfied

        found = inspection.status(chosen, on_event)
        if not satisfied(found, chosen):
            raise _not_at_head(found)
        return found

    return _call(work, settings, options)


def compare_models(
    *, settings: Settings | None = None, on_event: Reporter = silent, **options: Any
) -> tuple[Difference, ...]:
    """How the models differ from what the revisions make of an empty, disposable database; empty if they agree.

    Made for a test of the project: ``assert migrator.compare_models() == ()``. The configured database is not
    connected to. Meanwhile the variables of the process name the disposable database; other threads go on with
    the connections that they have.

    :raises ConfigurationError: no disposable database can be made, or ``env.py`` names no models.
    :raises MigratorError: a revision failed, several heads, or what else :func:`upgrade` raises.
    """

    def work(chosen: Settings, redactor: Redactor) -> tuple[Difference, ...]:
        from migrator import generating

        differences, _ = generating.compare_models(chosen, on_event, learn_secret=redactor.add)
        return differences

    return _call(work, settings, options)


def _not_at_head(found: Status) -> VerificationFailed:
    target = next(target for target in found.targets if target.pending)
    return VerificationFailed(
        f"the database is at {', '.join(target.current) or 'base'} and not at {', '.join(target.heads)}",
        details=(f"pending: {', '.join(one.revision for one in target.pending)}",),
        next_step="migrator upgrade applies what is pending.",
    )


def _settings(settings: Settings | None, options: dict[str, Any]) -> Settings:
    if settings is not None:
        if options:
            raise TypeError("give settings or single options, not both")
        return settings
    from migrator.loading import load_settings

    return load_settings(options, caller="python")


def _call(
    work: Callable[[Settings, Redactor], Result], settings: Settings | None, options: dict[str, Any]
) -> Result:
    """``work`` with the settings. No password is in an error that leaves: programs log what they catch."""

    def masked() -> Result:
        from migrator.redaction import Redactor

        chosen, redactor = _settings(settings, options), Redactor()
        try:
            with chosen.secrets_told_to(redactor.add):
                return work(chosen, redactor)
        except MigratorError as error:
            from migrator.report.safe import redacted_error

            # The error itself, for it goes on with its traceback.
            error.__dict__.update(redacted_error(error, redactor.redact).__dict__)
            error.args = (error.message,)
            error.add_note(_note(error))
            raise

    return _outside_event_loops(masked)


def _note(error: MigratorError) -> str:
    """What the command line would show; of an application that does not start, a traceback is all that is seen."""
    from migrator.report.failure import failure_of
    from migrator.report.layout import block
    from migrator.report.text import failure_blocks

    blocks = [block(label, texts) for label, texts in failure_blocks(failure_of(error)) if label != "exit"]
    return "\n".join(line for lines in blocks for line in lines)


def _outside_event_loops(work: Callable[[], Result]) -> Result:
    """Run ``work`` where no event loop runs: an asynchronous ``env.py`` calls ``asyncio.run`` itself."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return work()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="migrator") as executor:
        return executor.submit(work).result()
