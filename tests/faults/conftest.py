"""What the tests of faults share: small data, a run, and a process to start commands from."""

from collections.abc import Iterator

import pytest
from harness import TRAIN, Bench, Inputs, Starter
from making import RECIPE, TREE, pack, write_kaggle_folder


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    kaggle = write_kaggle_folder(folder / "kaggle", num_train=48, num_test=24)
    (folder / "tiny.toml").write_text(RECIPE.replace("epochs = 2", "epochs = 6"))
    (folder / "tree.toml").write_text(TREE)
    shards = pack(kaggle, folder / "shards", "--shards", "6", "--tree", str(folder / "tree.toml"))
    inputs = Inputs(kaggle, folder / "tree.toml", folder / "tiny.toml", shards, folder / "trained" / "run")
    (folder / "logs").mkdir()
    starter = Starter(folder / "logs")
    bench = Bench(starter, inputs, folder)
    (folder / "trained").mkdir()
    code, said = bench.run(TRAIN, folder / "trained")
    assert code == 0, said
    yield bench
    starter.close()
