"""Commands that are killed or asked to end, at random moments."""

import signal
from pathlib import Path

import numpy as np
import pytest
from harness import COMMANDS, EVALUATE, PREDICT, VIEWS, Bench, Command

KILLS, AT_EACH_END = 20, 2


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_killed_at_random_moments_a_command_goes_on_to_the_same_result(
    command: Command, bench: Bench, tmp_path: Path
) -> None:
    """Started again after each kill; where it comes to its end before, it begins again in another folder."""
    rng, seconds, kills, number = np.random.default_rng(20), bench.undisturbed(command).seconds, 0, 0
    while kills < KILLS:
        number += 1
        out = tmp_path / str(number)
        out.mkdir()
        has_ended = False
        while kills < KILLS and not has_ended:
            with bench.started(command, out) as process:
                if has_ended := process.ends_within(rng.uniform(0, seconds)):
                    assert process.code() == 0, process.said
            kills += not has_ended
        bench.finish(command, out)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_asked_to_end_at_random_moments_a_command_ends_and_goes_on_to_the_same_result(
    command: Command, bench: Bench, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        rng, seconds = np.random.default_rng(4), bench.undisturbed(command).seconds
        (out := tmp_path / number.name).mkdir()
        with subtests.test(number.name):
            for _ in range(4):
                with bench.started(command, out) as process:
                    process.ends_within(rng.uniform(0, seconds))
                    process.send_to_all(number)
                    code = process.code()
                    assert code in (0, 130, -number), process.said
                    assert "Traceback" not in process.said
                if code == 0:  # it had come to its end
                    bench.check(command, out)
            bench.finish(command, out)


@pytest.mark.slow
@pytest.mark.parametrize("command", [PREDICT, EVALUATE, VIEWS], ids=lambda command: command.name)
def test_killed_at_its_first_and_last_changes_of_files_a_command_goes_on_to_the_same_result(
    command: Command, bench: Bench, tmp_path: Path
) -> None:
    bench.undisturbed(command)
    (tmp_path / "whole").mkdir()
    code, said = bench.run(command, tmp_path / "whole", dies_at=[str(tmp_path / "whole"), -1])
    assert code == 0, said
    num_changes = said.count("change: ")
    assert num_changes > 1
    for number in {*range(min(AT_EACH_END, num_changes)), *range(max(0, num_changes - AT_EACH_END), num_changes)}:
        out = tmp_path / str(number)
        out.mkdir()
        code, said = bench.run(command, out, dies_at=[str(out), number])
        assert code == -signal.SIGKILL, said
        bench.finish(command, out)
