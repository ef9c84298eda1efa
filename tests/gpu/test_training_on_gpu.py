import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from making import RECIPE
from torch._dynamo.utils import counters

from ensemble.model import Predictor, build_network
from ensemble.networks.equivariant import GroupCnn, turn
from ensemble.optimisers import Optimiser
from ensemble.recipe import Recipe, recipe_from_table
from galaxy_zoo.tree import load_tree
from training.checkpoint import Snapshot, load_state
from training.member import Member
from training.step import Replay

TREE = load_tree("gz2-kaggle")
TOML = (
    RECIPE.replace("crop_px = 64", "crop_px = 80")
    .replace("size_px = 16", "size_px = 32")
    .replace("batch_size = 16", "batch_size = 32\nema_decay = 0.9")
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TOML)
    return path


def recipe(kind: str = "adamw") -> Recipe:
    table = tomllib.loads(TOML)
    table["optimiser"]["kind"] = kind
    if kind == "sgd":
        table["optimiser"]["momentum"] = 0.9
    return recipe_from_table(table, "tiny", where="tiny")


def make(kind: str = "adamw", device: str = "cuda") -> Member:
    return Member(recipe(kind), TREE, seed=0, steps_per_epoch=8, device=torch.device(device))


def batch(step: int, size: int = 32, device: str = "cuda") -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randn(size, 3, 32, 32, generator=generator).to(memory_format=torch.channels_last)
    votes = torch.rand(size, len(TREE.columns), generator=generator)
    return images.to(device, torch.float16 if device == "cuda" else torch.float32), votes.to(device)


def test_steps_on_full_and_short_batches_learn_and_are_finite() -> None:
    member = make()
    losses = [member.step(*batch(0, size)).item() for size in (32, 32, 19, 32, 1) * 3]
    assert all(torch.isfinite(torch.tensor(losses)))
    assert losses[-2] < losses[0]


def test_the_first_steps_on_a_gpu_have_the_losses_of_a_cpu() -> None:
    losses = {}
    for device in ("cuda", "cpu"):
        member = make(device=device)
        losses[device] = [member.step(*batch(step, device=device)).item() for step in range(3)]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)


def test_a_member_taken_up_from_a_checkpoint_goes_on_the_same(tmp_path: Path, subtests: pytest.Subtests) -> None:
    for kind in get_args(get_type_hints(Optimiser)["kind"]):
        with subtests.test(kind=kind):
            unbroken = make(kind)
            for step in range(2):
                unbroken.step(*batch(step))
            Snapshot.of(unbroken.state()).write(tmp_path / "state")
            resumed = make(kind)
            resumed.load_state(load_state(tmp_path / "state"))
            for step in range(2, 4):
                expected = unbroken.step(*batch(step)).item()
                assert resumed.step(*batch(step)).item() == pytest.approx(expected, rel=1e-3)
            for one, other in zip(unbroken.weights().values(), resumed.weights().values(), strict=True):
                assert torch.allclose(one.float(), other.float(), rtol=1e-2, atol=1e-3)


def test_an_equivariant_network_gives_the_same_votes_whichever_way_up_the_images_are() -> None:
    network = (
        GroupCnn(channels=(4, 8), kernels=(3, 3), pools=1, hidden=8)
        .build(size_px=16, outputs=5, pretrained=False)
        .cuda()
        .eval()
    )
    images = torch.rand(2, 3, 16, 16, device="cuda")
    assert torch.allclose(network(turn(images, (1, 1))), network(images), atol=1e-4)


def test_weights_have_the_names_of_the_network_that_was_not_compiled() -> None:
    member = make()
    member.step(*batch(0))
    assert set(member.weights()) == set(make(device="cpu").weights())


class RecordsNothing:
    def record(self, work: Callable[[], torch.Tensor]) -> Replay:
        raise RuntimeError("not on this card")


def test_a_short_batch_is_not_compiled_in_training() -> None:
    told: list[str] = []
    member = Member(
        recipe(),
        TREE,
        seed=0,
        steps_per_epoch=8,
        device=torch.device("cuda"),
        recorder=RecordsNothing(),
        say=told.append,
    )
    for _ in range(2):  # the second compiles, since nothing was recorded
        member.step(*batch(0))
    compiled = counters["stats"]["unique_graphs"]
    for size in (19, 32, 1):
        assert member.step(*batch(1, size)).isfinite()
    assert counters["stats"]["unique_graphs"] == compiled > 0
    assert "not on this card" in told[0]


def test_a_short_batch_is_not_compiled_in_prediction() -> None:
    network = build_network(recipe(), TREE, pretrained=False)
    predictor = Predictor(network, torch.device("cuda"), compiled=True)
    predictor.predict(batch(0)[0])
    compiled = counters["stats"]["unique_graphs"]
    for size in (19, 32):
        images, _ = batch(1, size)
        with torch.no_grad():
            assert torch.allclose(predictor.predict(images), network(images), atol=0.01)
    assert counters["stats"]["unique_graphs"] == compiled > 0


def test_train_and_predict_run_on_a_gpu(shards: Path, tiny: Path, tmp_path: Path) -> None:
    from predict import main as predict
    from train import main as train

    run, csv = tmp_path / "run", tmp_path / "submission.csv"
    options = ["--recipe", str(tiny), "--members", "2", "--out", str(run), "--device", "cuda", "--fold", "0/5"]
    trained = CliRunner().invoke(train, [str(shards), *options])
    assert trained.exit_code == 0, trained.output
    metrics = [json.loads(line) for line in (run / "member-01" / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2
    resumed = CliRunner().invoke(train, [str(shards), *options, "--resume"])
    assert resumed.exit_code == 0, resumed.output
    tables = {}
    for device in ("cuda", "cpu"):
        options = ["--out", str(csv), "--views", "4", "--device", device, "--batch-size", "16"]
        predicted = CliRunner().invoke(predict, [str(run), str(shards), *options])
        assert predicted.exit_code == 0, predicted.output
        tables[device] = [line.split(",") for line in csv.read_text().splitlines()]
    assert [row[0] for row in tables["cuda"]] == [row[0] for row in tables["cpu"]]
    for on_gpu, on_cpu in zip(tables["cuda"][1:], tables["cpu"][1:], strict=True):
        assert [float(v) for v in on_gpu[1:]] == pytest.approx([float(v) for v in on_cpu[1:]], abs=0.03)
    embeddings = []
    for device in ("cuda", "cpu"):  # embeddings come from hooks, so the network is not compiled
        path = tmp_path / f"{device}.parquet"
        options = ["--out", str(csv), "--device", device, "--embeddings", str(path)]
        assert CliRunner().invoke(predict, [str(run), str(shards), *options]).exit_code == 0
        embeddings.append(np.stack(pd.read_parquet(path)["embedding_1"]))
    assert np.linalg.norm(embeddings[0] - embeddings[1]) < 0.05 * np.linalg.norm(embeddings[1])
