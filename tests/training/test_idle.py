import pytest

from training.idle import GAPS_AT_ONCE, IdleTime


class Device:
    """A process and a device behind it, both with time that passes only when told to."""

    def __init__(self) -> None:
        self.here, self.free_from, self.waited_s = 0.0, 0.0, 0.0

    def now(self) -> float:
        return self.here

    def mark(self) -> float:
        return max(self.here, self.free_from)

    def seconds(self, start: float, end: float) -> float:
        return end - start

    def launch(self, work_s: float) -> None:
        self.free_from = self.mark() + work_s

    def wait_for_batch(self, seconds: float) -> None:
        self.here += seconds
        self.waited_s += seconds


def idle_times(loader_s: float, host_s: float, work_s: float, steps: int) -> tuple[float, float]:
    device = Device()
    idle = IdleTime(device)
    for _ in range(steps):
        device.wait_for_batch(loader_s)
        device.here += host_s
        with idle.step(device.waited_s):
            device.launch(work_s)
    idle.finish()
    return idle.seconds("loader"), idle.seconds("host")


def test_a_device_without_work_waits_for_who_is_slowest(subtests: pytest.Subtests) -> None:
    for steps in (1, 10, 5 * GAPS_AT_ONCE):
        with subtests.test(steps=steps):
            later = steps - 1  # the device has nothing to do before the first step either
            assert idle_times(3, 1, 2, steps) == (4 + 2 * later, 0)
            assert idle_times(1, 3, 2, steps) == (0, 4 + 2 * later)


def test_a_device_that_is_behind_is_never_idle_however_long_the_process_waits() -> None:
    assert idle_times(3, 1, 5, 100) == (4, 0)


def test_an_epoch_starts_anew() -> None:
    device = Device()
    idle = IdleTime(device)
    device.wait_for_batch(7)
    with idle.step(device.waited_s):
        device.launch(1)
    device.here += 100
    idle.begin_epoch()
    device.here += 1
    with idle.step(0.0):
        device.launch(1)
    idle.finish()
    assert (idle.seconds("loader"), idle.seconds("host")) == (0, 1)
