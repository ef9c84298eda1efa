import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.fold import MOST_FOLDS, Fold, folds_named


def test_a_name_stands_for_its_folds() -> None:
    assert folds_named("none") == {"none": None}
    assert folds_named("1/3") == {"1/3": Fold(1, 3)}
    assert folds_named("all/3") == {f"{index}/3": Fold(index, 3) for index in range(3)}
    assert all(Fold.named(str(fold)) == fold for fold in (Fold(0, 2), Fold(MOST_FOLDS - 1, MOST_FOLDS)))


BAD_NAMES = [
    "",
    "all",
    "1",
    "3/3",
    "-1/3",
    "0/1",
    "all/1",
    "a/b",
    "all/10000",
    "all/1000000000",
    "0/" + "9" * 5000,
]


def test_another_name_is_refused_at_once_in_one_line(subtests: pytest.Subtests) -> None:
    for name in BAD_NAMES:
        with subtests.test(name=name):
            with pytest.raises(ValueError, match="is neither") as caught:
                folds_named(name)
            assert len(str(caught.value)) < 200


@given(st.integers(2, 20), st.integers(0, 19), st.integers(2, 30))
def test_a_fold_fitted_to_a_set_is_itself_or_the_nearest_one_that_the_set_has(
    count: int, index: int, num_shards: int
) -> None:
    fold = Fold(index % count, count)
    fitted = fold.fitted(num_shards)
    assert fitted.count == min(count, num_shards)
    assert Fold.named(str(fitted)) == fitted
    assert fitted == fold or num_shards < count


def test_a_fold_is_not_fitted_to_a_single_shard() -> None:
    assert Fold(0, 10).fitted(1) == Fold(0, 10)
