from pathlib import Path

import numpy as np
import pytest

from galaxy_zoo.tree import DecisionTree, Question
from training.figures import draw_curves, draw_galaxies


def test_answers_are_drawn_as_they_are_called(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for name in ["$x_", "$\\frac{1}$", "<b>&amp;</b>", "a\\nb", "%s {0}", "\"'"]:
        with subtests.test(name=name):
            question = Question(name=name, columns=("a", "b"), answers=(name, name * 2))
            tree = DecisionTree(name="tree", id_column="id", questions=(question,))
            votes = np.full((2, 2), 0.5)
            draw_galaxies(np.zeros((2, 8, 8, 3)), votes, votes, tree).savefig(tmp_path / "galaxies.png")


def test_curves_of_a_run_without_a_fold_are_drawn_too(tmp_path: Path) -> None:
    lines = [{"epoch": epoch, "loss": 0.1 - 0.01 * epoch, "learning_rate": 0.1} for epoch in range(3)]
    draw_curves(lines, tmp_path / "curves.png")
    draw_curves([line | {"rmse": 0.2, "baseline_rmse": 0.16} for line in lines], tmp_path / "with_fold.png")
    assert (tmp_path / "curves.png").read_bytes() != (tmp_path / "with_fold.png").read_bytes()
