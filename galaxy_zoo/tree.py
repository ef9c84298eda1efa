"""The decision tree: questions, their answers, and the answer each question hangs from.

Heads, losses, metrics and checks are written over a tree, never over the number 37. A tree is a small TOML
file; `load_tree("gz2-kaggle")` and `load_tree("galaxy10")` come with the project, `load_tree("my_tree.toml")`
reads a user's own:

    name = "my-survey"
    id_column = "id"                  # the column of a table of votes that holds the ids

    [[question]]
    name = "shape"
    columns = ["smooth", "disk"]      # one column of votes an answer
    answers = ["smooth", "a disk"]    # optional, how a figure should call them; default: the columns

    [[question]]
    name = "arms"
    parent = "disk"                   # the answer this question hangs from; without it, everybody is asked
    columns = ["two_arms", "more_arms"]
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import TreeError

TREE_KEYS = {"name", "id_column", "question"}
QUESTION_KEYS = {"name", "columns", "answers", "parent"}


@dataclass(frozen=True)
class Question:
    """One question: its answers are neighbouring columns that sum to the votes of `parent`, or to 1.

    `parent` is the column of the answer this question hangs from, None where everybody is asked.
    """

    name: str
    columns: tuple[str, ...]
    answers: tuple[str, ...]
    parent: str | None = None


@dataclass(frozen=True)
class DecisionTree:
    """Questions in the order of their columns.

    Raises:
        TreeError: a column stands twice, a parent is unknown, or questions hang from each other in a circle.
    """

    name: str
    id_column: str
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        self._check()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of all answers, in the order of the columns of a table of votes."""
        return tuple(column for question in self.questions for column in question.columns)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """For each question, the half-open slice of its columns."""
        ends = [0]
        for question in self.questions:
            ends.append(ends[-1] + len(question.columns))
        return tuple(slice(start, end) for start, end in pairwise(ends))

    @cached_property
    def parents(self) -> tuple[int | None, ...]:
        """For each question, the index of the column it hangs from, or None."""
        at = {column: index for index, column in enumerate(self.columns)}
        return tuple(None if q.parent is None else at[q.parent] for q in self.questions)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Indices of the questions, every question after the one it hangs from."""
        owner = {column: index for index, q in enumerate(self.questions) for column in q.columns}
        order: list[int] = []
        waiting = list(range(len(self.questions)))
        while waiting:
            ready = [i for i in waiting if (p := self.questions[i].parent) is None or owner[p] in order]
            if not ready:
                names = ", ".join(repr(self.questions[i].name) for i in waiting)
                raise TreeError(f"tree {self.name!r}: questions hang from each other in a circle: {names}")
            order += ready
            waiting = [i for i in waiting if i not in ready]
        return tuple(order)

    def to_dict(self) -> dict[str, Any]:
        """The tree as plain data in the layout of its TOML file, for a manifest."""
        questions = [
            {"name": q.name, "columns": list(q.columns), "answers": list(q.answers)}
            | ({} if q.parent is None else {"parent": q.parent})
            for q in self.questions
        ]
        return {"name": self.name, "id_column": self.id_column, "question": questions}

    def _check(self) -> None:
        if not self.questions:
            raise TreeError(f"tree {self.name!r} has no question; give at least one [[question]]")
        for question in self.questions:
            self._check_question(question)
        twice = [column for column, count in Counter(self.columns).items() if count > 1]
        if twice:
            raise TreeError(f"tree {self.name!r}: column {twice[0]!r} stands twice; name every answer once")
        for question in self.questions:
            if question.parent is not None and question.parent not in self.columns:
                raise TreeError(
                    f"tree {self.name!r}: question {question.name!r} hangs from {question.parent!r}, "
                    f"which is no column; the columns are {', '.join(self.columns)}"
                )
        _ = self.order

    def _check_question(self, question: Question) -> None:
        if not question.columns:
            raise TreeError(f"tree {self.name!r}: question {question.name!r} has no columns")
        if len(question.answers) != len(question.columns):
            raise TreeError(
                f"tree {self.name!r}: question {question.name!r} has {len(question.columns)} columns "
                f"but {len(question.answers)} answers; give one answer a column"
            )
        if self.id_column in question.columns:
            raise TreeError(f"tree {self.name!r}: column {self.id_column!r} is the id, not an answer")


def tree_from_dict(data: Mapping[str, Any], *, where: str) -> DecisionTree:
    """Build a tree from the data of its TOML file or of a manifest; `where` names it in errors.

    Raises:
        TreeError: a key is unknown or missing, a value is of the wrong type, or it is not a tree.
    """
    _check_keys(data, TREE_KEYS, required={"name", "question"}, where=where)
    name = _text(data["name"], f"{where}: name")
    id_column = _text(data.get("id_column", "id"), f"{where}: id_column")
    tables = data["question"]
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise TreeError(f"{where}: questions are a list of [[question]] tables")
    questions = tuple(_question_from_dict(each, f"{where}: question {i}") for i, each in enumerate(tables, 1))
    try:
        return DecisionTree(name, id_column, questions)
    except TreeError as error:
        raise TreeError(f"{where}: {error}") from error


def load_tree(name_or_path: str | Path) -> DecisionTree:
    """Load a tree that comes with the project by its name, or a user's own TOML file by its path.

    Raises:
        TreeError: there is no such tree, the file is not TOML, or it does not hold a tree.
    """
    own = resources.files("galaxy_zoo.trees").joinpath(f"{name_or_path}.toml")
    try:
        text = own.read_text() if own.is_file() else Path(name_or_path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TreeError(
            f"no decision tree {str(name_or_path)!r}: give one of {', '.join(known_trees())} or a TOML file"
        ) from error
    try:
        return tree_from_dict(tomllib.loads(text), where=str(name_or_path))
    except tomllib.TOMLDecodeError as error:
        raise TreeError(f"{name_or_path}: not a TOML file: {error}") from error


def known_trees() -> list[str]:
    """Names of the trees that come with the project."""
    files = resources.files("galaxy_zoo.trees").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def _question_from_dict(data: Mapping[str, Any], where: str) -> Question:
    _check_keys(data, QUESTION_KEYS, required={"name", "columns"}, where=where)
    columns = _texts(data["columns"], f"{where}: columns")
    answers = _texts(data["answers"], f"{where}: answers") if "answers" in data else columns
    parent = None if data.get("parent") is None else _text(data["parent"], f"{where}: parent")
    return Question(_text(data["name"], f"{where}: name"), columns, answers, parent)


def _check_keys(data: Mapping[str, Any], known: set[str], *, required: set[str], where: str) -> None:
    if unknown := sorted(set(data) - known):
        raise TreeError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if missing := sorted(required - set(data)):
        raise TreeError(f"{where}: key {missing[0]!r} is missing")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise TreeError(f"{where} must be a text, not {value!r}")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TreeError(f"{where} must be a list of texts, not {value!r}")
    return tuple(_text(each, where) for each in value)
