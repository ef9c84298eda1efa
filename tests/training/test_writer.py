import threading
from collections.abc import Callable

import pytest

from training.writer import Writer


def test_work_is_done_in_order_one_piece_at_a_time() -> None:
    under_way, most, done = 0, 0, []

    def work(number: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        done.append(number)
        under_way -= 1

    with Writer() as writer:
        for number in range(50):
            writer.start(lambda number=number: work(number))
    assert (most, done) == (1, list(range(50)))


def fail() -> None:
    raise OSError("disk full")


def check_again_and_again(writer: Writer) -> None:
    while True:
        writer.check()


ASKING: dict[str, Callable[[Writer], None]] = {
    "start": lambda writer: writer.start(lambda: None),
    "check": check_again_and_again,
    "finish": Writer.finish,
    "leave": lambda _: None,
}


def test_an_error_comes_to_the_thread_that_asks_next_and_once(subtests: pytest.Subtests) -> None:
    for name, ask in ASKING.items():
        with subtests.test(name):
            with pytest.raises(OSError, match="disk full"), Writer() as writer:
                writer.start(fail)
                ask(writer)
            writer.check()


def test_work_under_way_is_finished_after_an_error_which_is_the_one_that_is_told() -> None:
    done, began = [], threading.Event()

    def work() -> None:
        began.wait(60)
        done.append(True)
        fail()

    with pytest.raises(ValueError, match="first"), Writer() as writer:
        writer.start(work)
        began.set()
        raise ValueError("first")
    assert done
