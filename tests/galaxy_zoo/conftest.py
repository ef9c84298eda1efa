"""The trees and the real galaxy that these tests share."""

import numpy as np
import pytest

from galaxy_zoo.tree import DecisionTree, Question, load_tree
from galaxy_zoo.votes import Floats


@pytest.fixture(scope="session")
def gz2() -> DecisionTree:
    return load_tree("gz2-kaggle")


@pytest.fixture(scope="session")
def shapes() -> DecisionTree:
    """Two questions, the second hangs from the second answer of the first."""
    return DecisionTree(
        name="shapes",
        questions=(
            Question(name="shape", columns=("smooth", "disk"), answers=("smooth", "a disk")),
            Question(name="arms", columns=("two", "more"), parent="disk"),
        ),
    )


@pytest.fixture(scope="session")
def galaxy_100008() -> Floats:
    """The first row of the challenge's training votes, shape (1, 37)."""
    text = (
        ".383147 .616853 0  0 .616853  .038452149 .578400851  .418397819 .198455181  "
        "0 .104752126 .512100874 0  .054453 .945547  .201462524 .181684476 0  "
        "0 .0272265 0 .0272265 0 0 0  0 0 0  .279952491 .138445328 0  0 .092885571 0 0 0 .325512248"
    )
    return np.array([text.split()], dtype=np.float64)
