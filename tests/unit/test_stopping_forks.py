"""A revision may fork: what is sent to its children is not meant for the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from migrator.stopping import Stopping


@pytest.fixture
def forwarded() -> Iterator[tuple[int, int]]:
    """A pipe's ends: what the monitor has read comes out, for it forwards that to a descriptor of the project's."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield read, write
    signal.signal(signal.SIGUSR1, before)
    os.close(read)
    os.close(write)


def test_a_signal_to_a_child_of_the_project_ends_the_child_and_does_not_stop_the_run(
    forwarded: tuple[int, int],
) -> None:
    read, write = forwarded
    with Stopping(None) as stopping:
        signal.set_wakeup_fd(write)
        ready, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(told, b"!")
            signal.pause()
            os._exit(0)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        signal.raise_signal(signal.SIGUSR1)  # comes after what the child's handler would have written
        while signal.SIGUSR1 not in os.read(read, 64):
            pass
        assert stopping.reason is None
        os.close(ready)
        os.close(told)


def test_a_signal_that_comes_before_the_child_has_begun_is_none_of_the_runs(
    forwarded: tuple[int, int],
) -> None:
    read, write = forwarded
    with Stopping(None) as stopping:
        signal.set_wakeup_fd(write)
        for _ in range(100):
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        signal.raise_signal(signal.SIGUSR1)
        while signal.SIGUSR1 not in os.read(read, 64):
            pass
        assert stopping.reason is None


def test_a_fork_leaves_the_signals_of_the_run_as_they_were() -> None:
    with Stopping(None):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        child = os.fork()
        if child == 0:
            os._exit(int(signal.pthread_sigmask(signal.SIG_BLOCK, ()) != before))
        assert os.waitpid(child, 0)[1] == 0
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
