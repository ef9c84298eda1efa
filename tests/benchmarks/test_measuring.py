from benchmarks.measuring import Result, measured


def test_the_median_counts() -> None:
    expected = Result(name="x", value=2.0, unit="s", lowest=1.0, highest=5.0, runs=3)
    assert measured("x", "s", [5.0, 1.0, 2.0]) == expected
