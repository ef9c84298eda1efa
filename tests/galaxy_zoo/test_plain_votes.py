"""Plain tables are read fast, with the result of the reader that takes any table."""

import io

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.labels import read_votes
from galaxy_zoo.plain_votes import plain_votes
from galaxy_zoo.tree import DecisionTree

PLAIN = "more,id,smooth,disk,two\n1e-3,007,.5,0.5,1\n0,100023,1,-0,0.0\n"


def read(
    text: str, tree: DecisionTree, *, lines_at_once: int = 2
) -> tuple[list[tuple[int, pd.DataFrame]], int | None]:
    """Return what is yielded, and what is returned."""
    parts, found = plain_votes(io.BytesIO(text.encode()), tree, highest=1.0, lines_at_once=lines_at_once), []
    while True:
        try:
            found.append(next(parts))
        except StopIteration as end:
            return found, end.value


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=9),
    st.integers(1, 4),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_plain_tables_have_the_bits_of_the_reader_of_any_table(
    shapes: DecisionTree, rows: list[tuple[float, ...]], lines_at_once: int, end: str, ends: bool
) -> None:
    lines = ["id," + ",".join(shapes.columns), *(f"{i}," + ",".join(map(str, row)) for i, row in enumerate(rows))]
    text = end.join(lines) + (end if ends else "")
    found, unread = read(text, shapes, lines_at_once=lines_at_once)
    assert unread is None
    assert [line for line, _ in found] == list(range(2, 2 + len(rows), lines_at_once))
    pd.testing.assert_frame_equal(
        pd.concat([votes for _, votes in found]),
        read_votes(io.BytesIO(text.encode()), shapes, name="votes.csv"),
        check_exact=True,
        check_names=False,
        check_index_type=False,
    )


def test_columns_may_stand_in_any_order_and_ids_are_text(shapes: DecisionTree) -> None:
    [(line, votes)], unread = read(PLAIN, shapes)
    assert (line, unread) == (2, None)
    assert votes.index.tolist() == ["007", "100023"]
    assert votes.to_numpy().tolist() == [[0.5, 0.5, 1, 0.001], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    "line",
    [
        "0,,1,0,0",
        ",5,1,0,0",
        "0,5,1_0,0,0",
        "0,5,1,0",
        "0,5,1,0,0,0",
        "0,5,'1',0,0",
        "0,5,1.5,0,0",
        "0,5,-1,0,0",
        "0,5,nan,0,0",
        "0,5,1-1,0,0",
        "0,5,e,0,0",
        "0,5,1e999,0,0",
        "",
        "0,5,0x1,0,0",
        "0,x5,1,0,0",
        "0,5,1 ,0,0",
    ],
)
def test_it_stops_before_lines_that_are_not_plain(shapes: DecisionTree, line: str) -> None:
    found, unread = read(f"{PLAIN}{line}\n0,9,1,0,0\n", shapes)
    assert (len(found), unread) == (1, 4)


@pytest.mark.parametrize(
    "header",
    [
        *("", "id,smooth", "id,id,smooth,disk,two,more", '"id",smooth,disk,two,more'),
        *('id,smooth,disk,two,more,"x', "#h,id,smooth,disk,two,more", "id,smooth,disk,two,more\r\r"),
    ],
)
def test_it_reads_nothing_of_a_table_with_another_header(shapes: DecisionTree, header: str) -> None:
    assert read(f"{header}\n1,1,1,1,1\n", shapes) == ([], 2)


def test_it_reads_nothing_of_a_table_without_lines(shapes: DecisionTree) -> None:
    assert read("id,smooth,disk,two,more\n", shapes) == ([], 2)
