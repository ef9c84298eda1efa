"""Ctrl-C while members train."""

import signal
from collections.abc import Iterator

import pytest

from training.interrupt import Interrupt


def test_the_first_signal_is_answered_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        with Interrupt("finishing this step") as interrupt:
            assert not interrupt.requested
            signal.raise_signal(number)
            assert interrupt.requested
            assert capfd.readouterr().err == "\nfinishing this step\n"
            assert signal.getsignal(number) == before


@pytest.fixture(autouse=True)
def usual_effect() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt, whatever libraries that other tests import have set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_ctrl_c_has_its_usual_effect() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupt(""):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_a_rank_that_does_not_print_stops_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupt("") as interrupt:
        signal.raise_signal(signal.SIGINT)
    assert interrupt.requested
    assert capfd.readouterr().err == ""
