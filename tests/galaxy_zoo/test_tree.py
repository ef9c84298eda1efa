"""The decision tree: the challenge's own, and what a user's file may and may not say."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.errors import TreeError
from galaxy_zoo.tree import DecisionTree, Question, known_trees, load_tree, tree_from_dict

CHALLENGE = [
    # question, half-open columns, column of the parent
    ("smooth or disk", slice(0, 3), None),
    ("edge-on", slice(3, 5), "Class1.2"),
    ("bar", slice(5, 7), "Class2.2"),
    ("spiral", slice(7, 9), "Class2.2"),
    ("bulge prominence", slice(9, 13), "Class2.2"),
    ("odd", slice(13, 15), None),
    ("roundness", slice(15, 18), "Class1.1"),
    ("odd feature", slice(18, 25), "Class6.1"),
    ("bulge shape", slice(25, 28), "Class2.1"),
    ("arm winding", slice(28, 31), "Class4.1"),
    ("arm count", slice(31, 37), "Class4.1"),
]

USER_TREE = """
name = "shapes"
[[question]]
name = "shape"
columns = ["smooth", "disk"]
[[question]]
name = "arms"
parent = "disk"
columns = ["two", "more"]
answers = ["two arms", "more arms"]
"""


@st.composite
def trees(draw: st.DrawFn) -> DecisionTree:
    """Random trees whose questions stand in any order, parents also after the questions under them."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    questions: list[Question] = []
    for index, size in enumerate(sizes):
        columns = tuple(f"q{index}a{answer}" for answer in range(size))
        earlier = [column for question in questions for column in question.columns]
        parent = draw(st.none() | st.sampled_from(earlier)) if earlier else None
        questions.append(Question(name=f"q{index}", columns=columns, parent=parent))
    return DecisionTree(name="random", questions=tuple(draw(st.permutations(questions))))


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_the_challenges_tree_has_its_slices_and_parents(gz2: DecisionTree) -> None:
    parents = [None if p is None else gz2.columns[p] for p in gz2.parents]
    assert list(zip([q.name for q in gz2.questions], gz2.slices, parents, strict=True)) == CHALLENGE


def test_the_challenges_columns_stand_in_the_order_of_its_header(gz2: DecisionTree) -> None:
    sizes = [s.stop - s.start for _, s, _ in CHALLENGE]
    assert gz2.id_column == "GalaxyID"
    assert list(gz2.columns) == [f"Class{q}.{a}" for q, size in enumerate(sizes, 1) for a in range(1, size + 1)]


def test_galaxy10_is_one_question_of_ten_answers() -> None:
    tree = load_tree("galaxy10")
    assert tree.slices == (slice(0, 10),)
    assert tree.parents == (None,)


def test_every_tree_that_comes_with_the_project_loads_under_its_own_name() -> None:
    assert known_trees() == ["galaxy10", "galaxy10-sdss", "gz2-kaggle"]
    assert all(load_tree(name).name == name for name in known_trees())


@given(trees())
def test_order_holds_each_question_once_and_after_its_parent(tree: DecisionTree) -> None:
    owner = {column: index for index, question in enumerate(tree.questions) for column in question.columns}
    assert sorted(tree.order) == list(range(len(tree.questions)))
    for index, question in enumerate(tree.questions):
        if question.parent is not None:
            assert tree.order.index(owner[question.parent]) < tree.order.index(index)


@given(trees())
def test_slices_are_neighbours_that_cover_every_column_once(tree: DecisionTree) -> None:
    assert [i for s in tree.slices for i in range(s.start, s.stop)] == list(range(len(tree.columns)))
    assert [tree.columns[s] for s in tree.slices] == [question.columns for question in tree.questions]


@given(trees())
def test_a_tree_survives_the_way_through_a_manifest(tree: DecisionTree) -> None:
    assert tree_from_dict(tree.to_dict(), where="manifest") == tree


def test_a_users_file_gives_its_tree_with_columns_as_default_answers(tmp_path: Path) -> None:
    tree = load_tree(write(tmp_path, USER_TREE))
    assert tree.id_column == "id"
    assert tree.parents == (None, 1)
    assert [q.answers for q in tree.questions] == [("smooth", "disk"), ("two arms", "more arms")]


BAD_TREES = [
    (
        'parent = "disk"',
        'parent = "disc"',
        "question 'arms' hangs from 'disc', which is no column; did you mean 'disk'?",
    ),
    ('parent = "disk"', 'parent = "two"', "in a circle: 'arms'"),
    ('["smooth", "disk"]', '["smooth", "disk"]\nparent = "more"', "in a circle: 'shape', 'arms'"),
    ('["two", "more"]', '["two", "disk"]', "column 'disk' appears twice"),
    ('["two", "more"]', '["two", "id"]', "column 'id' appears twice"),
    ('["two", "more"]', '["two", "three", "more"]', "question 2: 3 columns but 2 answers"),
    ('["two", "more"]', "[]", "question 2: a question needs a name and columns"),
    ('["two", "more"]', '"two"', "question 2: columns must be a list"),
    ('["two", "more"]', '["two", 3]', "question 2: columns must be of type str, not 3"),
    ("parent =", "parrent =", "question 2: unknown key 'parrent'; did you mean 'parent'?"),
    (
        'name = "shapes"',
        'name = "shapes"\nidcolumn = "id"',
        "unknown key 'idcolumn'; did you mean 'id_column'?",
    ),
    ('name = "arms"\n', "", "question 2: key 'name' is missing"),
    ('name = "shapes"', "", "key 'name' is missing"),
    ('name = "shapes"', 'name = ""', "a tree needs a name"),
    ('name = "shapes"', "name = shapes", "not a TOML file"),
    (USER_TREE, 'name = "shapes"\nquestion = "shape"', "question must be a list"),
    (USER_TREE, 'name = "shapes"\nquestion = []', "at least one [[question]]"),
]


def test_a_file_that_is_no_tree_is_refused_by_name(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for old, new, says in BAD_TREES:
        with subtests.test(old=old, new=new):
            assert old in USER_TREE
            path = write(tmp_path, USER_TREE.replace(old, new, 1))
            with pytest.raises(TreeError) as caught:
                load_tree(path)
            assert says in str(caught.value)
            assert str(path) in str(caught.value)


def test_an_unknown_tree_names_itself_and_those_there_are(subtests: pytest.Subtests) -> None:
    for name in ["gz2", "nowhere/tree.toml", "."]:
        with subtests.test(name=name):
            with pytest.raises(TreeError, match="gz2-kaggle") as caught:
                load_tree(name)
            assert repr(name) in str(caught.value)


def test_a_binary_file_is_no_tree(tmp_path: Path) -> None:
    path = tmp_path / "galaxy.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(TreeError, match=r"galaxy\.jpg"):
        load_tree(path)


def test_a_pipe_is_refused_unless_a_shell_opened_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tree.toml")
    with pytest.raises(TreeError, match="a pipe or a device, not a file"):
        load_tree(tmp_path / "tree.toml")
    reader, writer = os.pipe()
    os.write(writer, b'name = "t"\nid_column = "id"\n[[question]]\nname = "q"\ncolumns = ["a", "b"]\n')
    os.close(writer)
    try:
        assert load_tree(f"/dev/fd/{reader}").columns == ("a", "b")
    finally:
        os.close(reader)
