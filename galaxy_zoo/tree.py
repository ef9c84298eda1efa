"""The decision tree: questions, their answers, and the parent answer of each question.

Heads, losses, metrics and checks work on any tree, never on the number 37. A tree is a small TOML
file; `load_tree("gz2-kaggle")`, `"galaxy10"` and `"galaxy10-sdss"` come with the project, `load_tree("my_tree.toml")`
reads a user's own:

    name = "my-survey"
    id_column = "id"                  # the column of a table of votes that holds the ids

    [[question]]
    name = "shape"
    columns = ["smooth", "disk"]      # one column of votes an answer
    answers = ["smooth", "a disk"]    # optional, names for figures; default: the columns

    [[question]]
    name = "arms"
    parent = "disk"                   # the answer that leads to this question; omit it if everybody is asked
    columns = ["two_arms", "more_arms"]
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from galaxy_zoo.errors import TreeError
from galaxy_zoo.files import may_wait
from galaxy_zoo.strict import parse, parse_toml, suggestion_or_list


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question; its answers are neighbouring columns that sum to the votes of `parent`, or to 1.

    answers: names of the answers in figures; default: the columns. parent: column of the answer that leads to this
    question; None if everybody is asked.
    """

    name: str
    columns: tuple[str, ...]
    answers: tuple[str, ...] = ()
    parent: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError if the values make no valid question."""
        if not self.answers:
            object.__setattr__(self, "answers", self.columns)
        if not self.columns or not all((self.name, *self.columns, *self.answers)):
            raise ValueError("a question needs a name and columns, none of them empty")
        if len(self.answers) != len(self.columns):
            raise ValueError(
                f"{len(self.columns)} columns but {len(self.answers)} answers; give one answer a column"
            )


@dataclass(frozen=True, kw_only=True)
class DecisionTree:
    """Questions in the order of their columns."""

    name: str
    id_column: str = "id"
    questions: tuple[Question, ...] = field(metadata={"key": "question"})

    def __post_init__(self) -> None:
        """Raise ValueError if the questions make no valid tree."""
        if not (self.name and self.id_column and self.questions):
            raise ValueError("a tree needs a name, an id_column and at least one [[question]]")
        twice = [name for name, count in Counter((self.id_column, *self.columns)).items() if count > 1]
        if twice:
            raise ValueError(f"column {twice[0]!r} appears twice; name the id and every answer once")
        for question in self.questions:
            if question.parent is not None and question.parent not in self.columns:
                raise ValueError(
                    f"question {question.name!r} hangs from {question.parent!r}, which is no column"
                    f"{suggestion_or_list(question.parent, self.columns)}"
                )
        # now, since on Python 3.11 torch.compile cannot compile the first read of a cached property
        _ = self.order, self.slices, self.parents

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of all answers, in the order of the columns of a table of votes."""
        return tuple(column for question in self.questions for column in question.columns)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Half-open slice of the columns of each question."""
        ends = [0]
        for question in self.questions:
            ends.append(ends[-1] + len(question.columns))
        return tuple(slice(start, end) for start, end in pairwise(ends))

    @cached_property
    def parents(self) -> tuple[int | None, ...]:
        """Index of the parent column of each question, or None."""
        at = {column: index for index, column in enumerate(self.columns)}
        return tuple(None if q.parent is None else at[q.parent] for q in self.questions)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Indices of the questions, each after the question of its parent."""
        owner = {column: index for index, q in enumerate(self.questions) for column in q.columns}
        order: list[int] = []
        waiting = list(range(len(self.questions)))
        while waiting:
            ready = [i for i in waiting if (p := self.questions[i].parent) is None or owner[p] in order]
            if not ready:
                names = ", ".join(repr(self.questions[i].name) for i in waiting)
                raise ValueError(f"questions hang from each other in a circle: {names}")
            order += ready
            waiting = [i for i in waiting if i not in ready]
        return tuple(order)

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as plain data in the layout of its TOML file, for a manifest."""
        questions = [
            {"name": q.name, "columns": list(q.columns), "answers": list(q.answers)}
            | ({} if q.parent is None else {"parent": q.parent})
            for q in self.questions
        ]
        return {"name": self.name, "id_column": self.id_column, "question": questions}


def tree_from_dict(data: object, *, where: str) -> DecisionTree:
    """Build a tree from the data of its TOML file or of a manifest; `where` names it in errors.

    Raises:
        TreeError: a key is unknown or missing, a value is of the wrong type, or the questions make no tree.
    """
    try:
        return parse(DecisionTree, data, where)
    except ValueError as error:
        raise TreeError(str(error)) from error


def load_tree(name_or_path: str | Path) -> DecisionTree:
    """Load a tree by its name, or a user's own by the path of its TOML file.

    Raises:
        TreeError: there is no such tree, the file is not TOML, or it does not describe a tree.
    """
    own = resources.files("galaxy_zoo.trees").joinpath(f"{name_or_path}.toml")
    if not own.is_file() and may_wait(Path(name_or_path)):
        raise TreeError(f"{name_or_path}: a pipe or a device, not a file; write the tree to a file first")
    try:
        text = own.read_text() if own.is_file() else Path(name_or_path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TreeError(
            f"no decision tree {str(name_or_path)!r}: give one of {', '.join(known_trees())} or a TOML file"
        ) from error
    try:
        data = parse_toml(text)
    except ValueError as error:
        raise TreeError(f"{name_or_path}: not a TOML file: {error}") from error
    return tree_from_dict(data, where=str(name_or_path))


def known_trees() -> list[str]:
    """Return the names of the trees that come with the project."""
    files = resources.files("galaxy_zoo.trees").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))
