"""Progress where no terminal shows a bar."""

import sys

import pytest
from tqdm import tqdm

from galaxy_zoo.progress import progress


def test_progress_into_a_file_or_a_pipe_is_whole_lines_that_end_with_the_total(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress(total=20, unit="steps", desc="train", done=3) as outer:
        with progress(total=9, unit="B", desc="fetch") as inner:
            inner.update(9)
        with progress(total=9, unit="steps", desc="hidden", shown=False) as hidden:
            hidden.update(9)
        outer.set_description("epoch 2/2", refresh=False)
        for _ in range(17):
            outer.update()
        tqdm.write("epoch 2: done", file=sys.stderr)
    with progress(total=5, unit="steps", desc="nothing done"):
        pass
    with progress(total=None, unit="images", desc="index") as unknown:
        unknown.update(7)
    shown = capsys.readouterr().err
    assert not set("\r\x1b") & set(shown)
    begun, _, fetched, said, trained, _, _, indexed = shown.splitlines()
    assert begun.startswith("train: 15 %, 3 of 20, ")
    assert fetched.startswith("fetch: 100 %, 9.00 of 9.00, ")
    assert said == "epoch 2: done"
    assert indexed.startswith("index: 7, ") and indexed.endswith(" images/s")
    assert trained.startswith("epoch 2/2: 100 %, 20 of 20, ")
