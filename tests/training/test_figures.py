from pathlib import Path

import numpy as np
import pytest

from galaxy_zoo.tree import DecisionTree, Question
from training.figures import draw_galaxies


@pytest.mark.parametrize("name", ["$x_", "$\\frac{1}$", "<b>&amp;</b>", "a\\nb", "%s {0}", "\"'"])
def test_answers_are_drawn_as_they_are_called(name: str, tmp_path: Path) -> None:
    question = Question(name=name, columns=("a", "b"), answers=(name, name * 2))
    tree = DecisionTree(name="tree", id_column="id", questions=(question,))
    votes = np.full((2, 2), 0.5)
    draw_galaxies(np.zeros((2, 8, 8, 3)), votes, votes, tree).savefig(tmp_path / "galaxies.png")
