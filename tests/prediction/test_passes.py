"""Who predicts what."""

from hypothesis import given
from hypothesis import strategies as st

from galaxy_zoo.manifest import Shard
from prediction.passes import by_unseen


def shards(count: int) -> list[Shard]:
    return [Shard(f"train-{number}.tar", 10, 0, "", "") for number in range(count)]


@given(st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=5))
def test_each_shard_is_predicted_once_by_exactly_the_members_that_have_not_seen_it(unseen: list[set[int]]) -> None:
    names = [frozenset(f"train-{number}.tar" for number in each) for each in unseen]
    found = {shard.name: group.members for group in by_unseen(shards(8), names) for shard in group.shards}
    expected = {
        shard.name: tuple(member for member, each in enumerate(names) if shard.name in each) for shard in shards(8)
    }
    assert found == {name: members for name, members in expected.items() if members}
    assignments = by_unseen(shards(8), names)
    assert sum(each.num_galaxies for each in assignments) == 10 * len(found)
    assert len({each.members for each in assignments}) == len(assignments)
