"""Two workers at one shard: one of them is presumed dead, and is not."""

from dataclasses import replace
from pathlib import Path

import pytest
from kaggle_download import contents

from galaxy_zoo.errors import OutputError
from galaxy_zoo.tree import load_tree
from shard_tool.shards.journal import Journal
from shard_tool.shards.packer import ShardTask, pack_shard
from shard_tool.source.options import PackOptions
from shard_tool.source.plan import PackPlan, make_plan


@pytest.fixture
def plan(kaggle: Path) -> PackPlan:
    return make_plan(PackOptions(source=kaggle, tree=load_tree("gz2-kaggle"), shards=1))


def begin(out: Path, plan: PackPlan, *, resume: bool = False) -> ShardTask:
    """Begin a pack and return the task of its first shard."""
    journal = Journal(out)
    with journal.locked(overwrite=not resume, resume=resume):
        journal.begin(plan.identity, resume=resume)
    shard = next(plan.shards())
    return ShardTask(
        out=out,
        plan=shard,
        image_px=plan.image_px,
        num_answers=plan.num_answers,
        num_measured=len(shard.samples),
        resume=False,
        fence=journal.fence(),
    )


def do_nothing() -> None:
    pass


def test_two_writers_at_once_write_the_shard_of_one(plan: PackPlan, tmp_path: Path) -> None:
    alone = begin(tmp_path / "alone", plan)
    packed = pack_shard(alone, do_nothing)
    task = begin(tmp_path / "out", plan)
    num_ticks = 0

    def another_one_overtakes() -> None:
        nonlocal num_ticks
        num_ticks += 1
        if num_ticks == 10:
            assert pack_shard(task, do_nothing) == packed

    assert pack_shard(task, another_one_overtakes) == packed
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_worker_that_outlives_its_pack_changes_nothing(plan: PackPlan, tmp_path: Path) -> None:
    task = begin(tmp_path, plan)
    other = replace(plan, identity={**plan.identity, "--seed": "1"})

    def another_pack_begins() -> None:
        if (tmp_path / ".pack" / "plan.json").read_text().find('"--seed": "1"') < 0:
            begin(tmp_path, other)
            (tmp_path / task.plan.name).write_bytes(b"of the other pack")

    with pytest.raises(OutputError, match="another one has begun since"):
        pack_shard(task, another_pack_begins)
    assert {path.name for path in tmp_path.rglob("*")} == {".pack", "lock", "plan.json", task.plan.name}
    assert (tmp_path / task.plan.name).read_bytes() == b"of the other pack"


def test_a_worker_that_outlives_a_finished_pack_leaves_nothing_behind(plan: PackPlan, tmp_path: Path) -> None:
    task = begin(tmp_path, plan)
    pack_shard(task, do_nothing)
    Journal(tmp_path).end()
    finished = contents(tmp_path)
    with pytest.raises(OutputError, match="its pack has ended"):
        pack_shard(task, do_nothing)
    assert contents(tmp_path) == finished


def test_what_a_killed_writer_left_is_removed_at_the_end(plan: PackPlan, tmp_path: Path) -> None:
    task = begin(tmp_path, plan)
    pack_shard(task, do_nothing)
    expected = set(contents(tmp_path)) - {".pack/lock", ".pack/plan.json", ".pack/train-000000.json"}
    (tmp_path / "train-000000.tar.0123abcd.part").write_bytes(b"half")
    (tmp_path / ".pack" / "train-000000.json.0123abcd.part").write_bytes(b"half")
    Journal(tmp_path).end()
    assert set(contents(tmp_path)) == expected


def test_what_a_killed_writer_left_does_not_hinder_resuming(plan: PackPlan, tmp_path: Path) -> None:
    begin(tmp_path, plan)
    (tmp_path / "train-000000.tar.0123abcd.part").write_bytes(b"half")
    begin(tmp_path, plan, resume=True)
    assert not list(tmp_path.rglob("*.part"))
