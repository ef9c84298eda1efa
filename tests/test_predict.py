"""predict.py: blends of several runs, folds, resuming, ranks, images, checks and scores."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from click.testing import CliRunner, Result
from making import NUM_TEST, NUM_TRAIN, RECIPE, edited_run, make_image, make_votes
from pages import commands as block_of_commands
from PIL import Image

import predict
import train
from ensemble.model import Predictor
from galaxy_zoo.errors import OutputError
from galaxy_zoo.files import exclusive
from galaxy_zoo.fold import Fold
from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import rmse
from galaxy_zoo.walk import describe_walk
from pipeline.shards import open_shards
from prediction import job
from prediction.parts import Parts
from prediction.passes import PendingPart
from shard_tool.cli import main as shard_tool
from training.checkpoint import save_state

ROOT = Path(__file__).parents[1]
TREE = load_tree("gz2-kaggle")
COLUMNS = list(TREE.columns)

HIDDEN = RECIPE.replace('"mean"', '"mean"\nhidden = [12]').replace("epochs = 2", "epochs = 1")
RECIPES = {
    "tree": HIDDEN,
    "sigmoid": HIDDEN.replace("crop_px = 64", "crop_px = 80").replace('"tree"', '"sigmoid"'),
}


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs by name: `tree` of 2 members and `sigmoid` of another view on one fold, `half-0` and `half-1` on halves."""
    folder = tmp_path_factory.mktemp("runs")
    for name, text in RECIPES.items():
        (folder / f"{name}.toml").write_text(text)
    for name, recipe, fold, members in (
        ("tree", "tree", "1/5", 2),
        ("sigmoid", "sigmoid", "1/5", 1),
        ("half-0", "tree", "0/2", 1),
        ("half-1", "tree", "1/2", 1),
    ):
        options = ["--recipe", folder / f"{recipe}.toml", "--fold", fold, "--members", members]
        arguments = [shards, *options, "--out", folder / name, "--device", "cpu", "--workers", 1]
        result = CliRunner().invoke(train.main, [str(each) for each in arguments])
        assert result.exit_code == 0, result.output
    return {path.name: path for path in folder.iterdir() if path.is_dir()}


def run(*args: object) -> Result:
    return CliRunner().invoke(predict.main, [str(each) for each in (*args, "--device", "cpu", "--workers", 1)])


def predicted(out: Path, *args: object) -> pd.DataFrame:
    """Predict to `out`, and read it."""
    result = run(*args, "--out", out)
    assert result.exit_code == 0, result.output
    assert not Parts(out).folder.exists()
    return read(out)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"GalaxyID": str}).set_index("GalaxyID")


def held_out_ids(shards: Path, fold: Fold) -> list[str]:
    held_out = open_shards(shards, "train", fold=fold, held_out=True)
    ids: list[str] = sorted(held_out.keys.tolist())
    return ids


class TestBlend:
    def test_runs_of_several_recipes_are_the_mean_of_all_their_members(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        both = predicted(tmp_path / "both.csv", runs["sigmoid"], runs["tree"], shards, "--views", 2)
        tree = predicted(tmp_path / "tree.csv", runs["tree"], shards, "--views", 2)
        sigmoid = predicted(tmp_path / "sigmoid.csv", runs["sigmoid"], shards, "--views", 2)
        pd.testing.assert_frame_equal(both, (2 * tree + sigmoid) / 3, atol=1e-7, rtol=0)

    @pytest.mark.parametrize("blend", ["best-k", "weights"])
    def test_a_blend_is_fitted_on_the_held_out_galaxies_and_its_scores_are_shown(
        self, runs: dict[str, Path], shards: Path, labels: pd.DataFrame, tmp_path: Path, blend: str
    ) -> None:
        result = run(runs["tree"], runs["sigmoid"], shards, "--blend", blend, "--out", tmp_path / "test.csv")
        assert result.exit_code == 0, result.output
        rows = [line.split() for line in result.stdout.splitlines()]
        fitted = {row[0]: float(row[1]) for row in rows if row[0] in {"uniform", "best-k", "weights"}}
        assert fitted["weights"] <= fitted["best-k"] + 1e-5 <= fitted["uniform"] + 2e-5
        curve = [row for row in rows if row[0] in {"1", "2", "3"}]
        assert {row[3] for row in curve} == {
            *(str(runs["tree"] / f"member-{member:02d}") for member in (0, 1)),
            str(runs["sigmoid"] / "member-00"),
        }
        ids = held_out_ids(shards, Fold(1, 5))
        everybody = predicted(tmp_path / "s.csv", runs["tree"], runs["sigmoid"], shards, "--split", "train")
        assert fitted["uniform"] == pytest.approx(rmse(everybody.loc[ids], labels.loc[ids]), abs=1e-5)
        chosen = predicted(
            tmp_path / "b.csv", runs["tree"], runs["sigmoid"], shards, "--split", "train", "--blend", blend
        )
        assert fitted[blend] == pytest.approx(rmse(chosen.loc[ids], labels.loc[ids]), abs=1e-5)

    def test_members_trained_on_several_folds_are_blended_as_one(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        halves = predicted(tmp_path / "a.csv", runs["half-0"], runs["half-1"], shards, "--blend", "weights")
        uniform = predicted(tmp_path / "b.csv", runs["half-0"], runs["half-1"], shards)
        pd.testing.assert_frame_equal(halves, uniform)

    def test_without_common_held_out_galaxies_no_blend_is_fitted(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        other = edited_run(runs["sigmoid"], tmp_path / "other", fold="none")
        result = run(other, runs["tree"], shards, "--blend", "best-k", "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "no galaxy is held out from all members" in result.output

    def test_shards_that_a_run_was_not_trained_on_are_no_ground_for_a_blend(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        other = shutil.copytree(shards, tmp_path / "shards")
        (other / "manifest.json").write_text((shards / "manifest.json").read_text() + "\n")
        assert run(runs["tree"], other, "--out", tmp_path / "s.csv").exit_code == 0
        result = run(runs["tree"], other, "--out-of-fold", "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "was not trained on" in result.output


class TestOutOfFold:
    def test_each_training_galaxy_is_predicted_by_the_members_that_have_not_seen_it(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        names = ("half-0", "half-1", "tree")
        alone = {
            name: predicted(tmp_path / f"{name}.csv", runs[name], shards, "--split", "train") for name in names
        }
        blind = predicted(tmp_path / "s.csv", *(runs[name] for name in names), shards, "--out-of-fold")
        assert len(blind) == NUM_TRAIN
        half = [held_out_ids(shards, Fold(index, 2)) for index in range(2)]
        fifth = set(held_out_ids(shards, Fold(1, 5)))
        for name, ids in zip(names, half, strict=False):
            only, shared = ([each for each in ids if (each in fifth) == is_shared] for is_shared in (False, True))
            assert only and shared
            pd.testing.assert_frame_equal(blind.loc[only], alone[name].loc[only], atol=1e-7, rtol=0)
            mean = (alone[name] + 2 * alone["tree"]).loc[shared] / 3
            pd.testing.assert_frame_equal(blind.loc[shared], mean, atol=1e-7, rtol=0)

    def test_galaxies_that_all_have_seen_are_left_out(
        self, runs: dict[str, Path], shards: Path, labels: pd.DataFrame, tmp_path: Path
    ) -> None:
        labels.to_csv(tmp_path / "truth.csv")
        result = run(
            runs["tree"], shards, "--out-of-fold", "--out", tmp_path / "s.csv", "--truth", tmp_path / "truth.csv"
        )
        assert result.exit_code == 0, result.output
        ids = held_out_ids(shards, Fold(1, 5))
        table = read(tmp_path / "s.csv")
        assert table.index.tolist() == ids
        assert f"{NUM_TRAIN - len(ids)} galaxies of" in result.stdout
        assert f"RMSE {rmse(table, labels.loc[ids]):.5f} (" in result.stdout

    def test_members_that_held_nothing_out_are_refused(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        result = run(edited_run(runs["tree"], tmp_path / "all", fold="none"), shards, "--out-of-fold")
        assert result.exit_code == 1
        assert "all have seen every galaxy" in result.output


class TestParquet:
    def test_details_hold_the_votes_and_how_far_views_and_members_disagree(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        options = ["--views", 4, "--details", tmp_path / "d.parquet"]
        blended = predicted(tmp_path / "s.csv", runs["half-0"], runs["half-1"], shards, *options)
        table = pd.read_parquet(tmp_path / "d.parquet").set_index("GalaxyID").loc[blended.index]
        np.testing.assert_allclose(table[COLUMNS], blended, atol=1e-7)
        members = [
            predicted(tmp_path / "m.csv", runs[name], shards, "--views", 4) for name in ("half-0", "half-1")
        ]
        spread = np.stack(members).std(axis=0)
        np.testing.assert_allclose(table[[f"{each}_member_spread" for each in COLUMNS]], spread, atol=1e-6)
        assert table[[f"{each}_view_spread" for each in COLUMNS]].to_numpy().max() > 0

    def test_one_view_of_one_member_has_no_spread(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        predicted(tmp_path / "s.csv", runs["half-0"], shards, "--details", tmp_path / "d.parquet")
        spreads = pd.read_parquet(tmp_path / "d.parquet").filter(like="_spread")
        assert spreads.shape == (NUM_TEST, 2 * len(COLUMNS))
        assert (spreads == 0).all(axis=None)

    def test_embeddings_are_what_the_last_layer_votes_by(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        """For the sigmoid head: the logits of the votes are one linear function of the embeddings."""
        path = tmp_path / "e.parquet"
        votes = predicted(tmp_path / "s.csv", runs["tree"], runs["sigmoid"], shards, "--embeddings", path)
        table = pd.read_parquet(path).set_index("GalaxyID").loc[votes.index]
        assert np.stack(table["embedding_0"]).shape == (NUM_TEST, 12)
        names = {key.decode(): name.decode() for key, name in pq.read_schema(path).metadata.items()}
        assert names["embedding_2"] == str(runs["sigmoid"] / "member-00")
        alone = predicted(tmp_path / "a.csv", runs["sigmoid"], shards).clip(1e-6, 1 - 1e-6)
        logits = np.log(alone / (1 - alone))
        inputs = np.column_stack([np.stack(table["embedding_2"]), np.ones(NUM_TEST)])
        fitted = inputs @ np.linalg.lstsq(inputs, logits, rcond=None)[0]
        np.testing.assert_allclose(fitted, logits, atol=1e-3)


class TestResume:
    @pytest.mark.slow
    def test_two_ranks_go_on_where_one_was_killed_and_write_the_bytes_of_one_that_was_not(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        """With members of two views, so two passes; ranks are started as torchrun does it."""
        what = [runs["half-0"], runs["sigmoid"], shards, "--views", 32, "--batch-size", 1]
        files = ["--details", "d.parquet", "--embeddings", "e.parquet"]
        command = [sys.executable, ROOT / "predict.py", *what, *files, "--device", "cpu", "--workers", 1]
        arguments = {
            "args": [str(each) for each in command],
            "cwd": tmp_path,
            "stderr": subprocess.PIPE,
            "text": True,
        }
        ranks = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": free_port(),
        }
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        folder, deadline = tmp_path / "submission.csv.parts", time.monotonic() + 60
        with subprocess.Popen(**arguments, env=environment) as killed:
            while not list(folder.glob("*.safetensors")) and time.monotonic() < deadline:
                time.sleep(0.002)
            killed.kill()
        assert killed.returncode == -signal.SIGKILL
        assert list(folder.glob("*.safetensors"))
        assert not (tmp_path / "submission.csv").exists()
        started = [
            subprocess.Popen(**arguments, env={**environment, **ranks, "RANK": str(each), "LOCAL_RANK": str(each)})
            for each in range(2)
        ]
        said = [process.communicate()[1] for process in started]
        assert [process.returncode for process in started] == [0, 0], said
        assert ["going on with " in each for each in said] == [True, False]
        assert not folder.exists()
        (tmp_path / "alone").mkdir()
        elsewhere = [tmp_path / "alone" / each if each.endswith("parquet") else each for each in files]
        predicted(tmp_path / "alone" / "submission.csv", *what, *elsewhere)
        for name in ("submission.csv", "d.parquet", "e.parquet"):
            assert (tmp_path / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()

    def test_what_is_finished_is_not_predicted_again_unless_it_is_damaged(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, what = tmp_path / "s.csv", [runs["tree"], shards, "--batch-size", 1]
        whole = predicted(tmp_path / "whole.csv", *what)
        with monkeypatch.context() as context:
            first = stop_after(context, 2)
            assert run(*what, "--out", out).exit_code == 130
        damaged = next(Parts(out).folder.glob(f"{first[0]}*"))
        data = bytearray(damaged.read_bytes())
        data[-9] ^= 1
        damaged.write_bytes(data)
        with monkeypatch.context() as context:
            second = stop_after(context, 99)
            pd.testing.assert_frame_equal(predicted(out, *what), whole)
        assert second[0] == first[0]
        assert first[1] not in second

    def test_a_part_with_a_right_checksum_and_wrong_content_is_one_message(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, what = tmp_path / "s.csv", [runs["sigmoid"], shards, "--batch-size", 1, "--out", tmp_path / "s.csv"]
        with monkeypatch.context() as context:
            stop_after(context, 1)
            assert run(*what).exit_code == 130
        for state in ({}, {"ids": 3, "members": []}, {"ids": ["1"], "members": [{"mean": 1}]}):
            Parts(out).write("predict-000-000-00000000", state)
            result = run(*what)
            assert (result.exit_code, result.stderr.count("Error: ")) == (1, 1), result.output
            assert "is not a part of this prediction" in result.stderr
            assert not out.exists()

    def test_a_prediction_does_not_go_on_with_parts_of_another_one(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out, what = tmp_path / "s.csv", [runs["tree"], shards, "--batch-size", 1, "--out", tmp_path / "s.csv"]
        with monkeypatch.context() as context:
            stop_after(context, 2)
            assert run(*what).exit_code == 130
        for options, difference in ((["--views", 2], "views"), (["--split", "train"], "split")):
            result = run(*what, *options)
            assert result.exit_code == 1
            assert f"2 finished parts of another prediction (of another {difference})" in result.output
        with monkeypatch.context() as context:
            context.setattr(job, "precision_on", lambda *_: "bf16")  # as on another CPU
            assert "parts of another prediction (of another precision)" in run(*what).output
        assert "(of another batch_size)" in run(*what, "--batch-size", 2).output
        result = run(runs["tree"], shards, "--out", out)  # with the batch size of the parts
        assert result.exit_code == 0, result.output
        assert "going on with 2 finished parts" in result.stderr
        assert "Kaggle takes a submission of its 79,975 test galaxies only" in result.stderr
        assert len(read(out)) == NUM_TEST

    def test_parts_that_arrive_late_are_written_in_order_with_the_same_bytes(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a GPU, which predicts a part while the one before it is copied and written."""
        what, written = [runs["tree"], shards, "--batch-size", 1], list[str]()
        predicted(tmp_path / "whole.csv", *what)
        write = Parts.write
        monkeypatch.setattr(
            Parts, "write", lambda self, name, state: (written.append(name), write(self, name, state))
        )
        monkeypatch.setattr(PendingPart, "is_there", False)
        predicted(tmp_path / "late.csv", *what)
        assert written == sorted(written)
        assert len(written) == 3
        assert (tmp_path / "late.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()

    def test_a_batch_that_memory_does_not_suffice_for_is_predicted_in_portions(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        what = [runs["tree"], shards, "--views", 2, "--embeddings"]
        whole = predicted(tmp_path / "whole.csv", *what, tmp_path / "whole.parquet")
        predict_images = Predictor.predict

        def predict_few(self: Predictor, images: torch.Tensor) -> torch.Tensor:
            votes = predict_images(self, images)
            if len(images) > 8:  # after the hook of the embeddings has seen them
                raise torch.OutOfMemoryError("CUDA out of memory")
            return votes

        monkeypatch.setattr(Predictor, "predict", predict_few)
        result = run(*what, tmp_path / "few.parquet", "--out", tmp_path / "few.csv")
        assert result.exit_code == 0, result.output
        assert "no memory for 21 galaxies at once; going on with 10" in result.stderr
        pd.testing.assert_frame_equal(read(tmp_path / "few.csv"), whole, atol=1e-6)
        tables = [pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("few", "whole")]
        assert tables[0]["GalaxyID"].equals(tables[1]["GalaxyID"])
        np.testing.assert_allclose(*(np.stack(each["embedding_1"]) for each in tables), atol=1e-5)

    def test_two_predictions_do_not_write_to_one_file(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "s.csv"
        Parts(out).folder.mkdir()
        with exclusive(Parts(out).folder / "lock", busy="never"):
            result = run(runs["tree"], shards, "--out", out)
            assert result.exit_code == 1
            assert "another prediction writes there" in result.output
            assert Parts(out).folder.exists()
        with (
            pytest.raises(OutputError),
            exclusive(tmp_path / "lock", busy=""),
            exclusive(tmp_path / "lock", busy=""),
        ):
            pass


class TestImages:
    def test_a_folder_of_images_is_predicted_as_shards_of_them_are(
        self, runs: dict[str, Path], shards: Path, kaggle_folder: Path, tmp_path: Path
    ) -> None:
        table = predicted(tmp_path / "images.csv", runs["tree"], kaggle_folder / "images_test_rev1", "--views", 2)
        expected = predicted(tmp_path / "shards.csv", runs["tree"], shards, "--views", 2)
        pd.testing.assert_frame_equal(table, expected, atol=1e-6, rtol=0)

    def test_a_folder_of_training_images_needs_no_votes(
        self, runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path
    ) -> None:
        folder = kaggle_folder / "images_training_rev1"
        assert len(predicted(tmp_path / "images.csv", runs["tree"], folder)) == NUM_TRAIN

    def test_one_image_is_walked_down_the_tree(
        self, runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path
    ) -> None:
        path = next((kaggle_folder / "images_test_rev1").iterdir())
        result = run(runs["tree"], path, "--out", tmp_path / "s.csv")
        assert result.exit_code == 0, result.output
        votes = read(tmp_path / "s.csv").loc[path.stem].to_numpy()
        assert f"{path.stem}: {describe_walk(votes, TREE)}" in result.stdout
        assert "warning" not in result.output

    def test_broken_images_are_named_and_the_others_predicted(
        self, runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "images"
        folder.mkdir()
        good = next((kaggle_folder / "images_test_rev1").iterdir())
        shutil.copy(good, folder / "1.jpg")
        (folder / "2.jpg").write_bytes(good.read_bytes()[:-400])
        pixels = make_image(np.random.default_rng(0))
        Image.fromarray(pixels).save(folder / "3.png")
        (folder / "4.jpg").write_bytes(simplejpeg.encode_jpeg(make_image(np.random.default_rng(0), 48)))
        result = run(runs["tree"], folder, "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "not predicted: 2.jpg: damaged JPEG" in result.stderr
        assert "not predicted: 4.jpg: 48 x 48 pixels" in result.stderr
        assert "are scaled with --resize" in result.stderr
        assert read(tmp_path / "s.csv").index.tolist() == ["1", "3"]
        result = run(runs["tree"], folder, "--out", tmp_path / "s.csv", "--resize")
        assert result.exit_code == 1
        assert read(tmp_path / "s.csv").index.tolist() == ["1", "3", "4"]

    def test_a_folder_that_is_written_into_goes_on_too(
        self, runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The shards packed for the time of a prediction lie in OUT.parts, which are no images to predict."""
        shutil.copytree(kaggle_folder / "images_test_rev1", tmp_path, dirs_exist_ok=True)
        with monkeypatch.context() as context:
            stop_after(context, 1)
            assert run(runs["tree"], tmp_path, "--batch-size", 1, "--out", tmp_path / "s.csv").exit_code == 130
        assert (tmp_path / "s.csv.parts" / "images" / "test-000000.tar").exists()
        result = run(runs["tree"], tmp_path, "--batch-size", 1, "--out", tmp_path / "s.csv")
        assert result.exit_code == 0, result.output
        assert "going on with " in result.stderr
        assert len(read(tmp_path / "s.csv")) == NUM_TEST

    def test_an_image_alone_that_is_broken_is_an_error(
        self, runs: dict[str, Path], kaggle_folder: Path, tmp_path: Path
    ) -> None:
        good = next((kaggle_folder / "images_test_rev1").iterdir())
        (tmp_path / "9.jpg").write_bytes(good.read_bytes()[:-400])
        result = run(runs["tree"], tmp_path / "9.jpg", "--out", tmp_path / "s.csv")
        assert result.exit_code == 1
        assert "no image can be used: 9.jpg: damaged JPEG" in result.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["9.jpg"]


class TestReferences:
    def test_ids_that_are_missing_are_named_after_the_prediction(
        self, runs: dict[str, Path], shards: Path, tmp_path: Path
    ) -> None:
        ids = predicted(tmp_path / "s.csv", runs["sigmoid"], shards).index.tolist()
        for extra, code in (([], 0), (["999999"], 1)):
            (tmp_path / "ids.txt").write_text("\n".join([*ids, *extra]))
            result = run(runs["sigmoid"], shards, "--out", tmp_path / "s.csv", "--ids", tmp_path / "ids.txt")
            assert result.exit_code == code, result.output
        assert "1 ids are missing: 999999" in result.output

    def test_a_score_comes_with_its_interval_and_that_of_each_question(
        self, runs: dict[str, Path], shards: Path, labels: pd.DataFrame, tmp_path: Path
    ) -> None:
        labels.to_csv(tmp_path / "truth.csv")
        what = [runs["sigmoid"], shards, "--split", "train", "--out", tmp_path / "s.csv"]
        result = run(*what, "--truth", tmp_path / "truth.csv")
        assert result.exit_code == 0, result.output
        table = read(tmp_path / "s.csv")
        assert f"RMSE {rmse(table, labels.loc[table.index]):.5f} (" in result.stdout
        for question in TREE.questions:
            assert f"  {question.name} " in result.stdout
        assert "answers do not sum to the votes of their parent" in result.stderr


def stop_after(monkeypatch: pytest.MonkeyPatch, num_parts: int) -> list[str]:
    """Stop as by Ctrl-C when so many parts are written; gives the names of all that were."""
    written: list[str] = []
    write = Parts.write

    def write_some(parts: Parts, name: str, state: dict) -> None:
        if len(written) == num_parts:
            raise KeyboardInterrupt
        write(parts, name, state)
        written.append(name)

    monkeypatch.setattr(Parts, "write", write_some)
    return written


@pytest.mark.parametrize("state", [[1], None, {"weights": [1]}, {"weights": None}, {"weights": {"a": 1}}, {}])
def test_weights_that_are_none_are_one_message(
    state: object, runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    """With a checksum that is right: somebody made them so."""
    spoilt = shutil.copytree(runs["sigmoid"], tmp_path / "spoilt")
    save_state(spoilt / "member-00" / "best.safetensors", state)  # type: ignore[arg-type]
    result = run(spoilt, shards, "--out", tmp_path / "s.csv")
    assert (result.exit_code, result.stderr.count("Error: ")) == (1, 1), result.output
    assert "spoilt/member-00/best.safetensors: " in result.stderr


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "value"), [("fold", "2/5"), ("fold", "none"), ("seed", 7), ("pretrained", False), ("shard_groups", 3)]
)
def test_a_run_that_says_other_than_its_checkpoints_is_refused(
    runs: dict[str, Path], shards: Path, tmp_path: Path, name: str, value: object
) -> None:
    out = shutil.copytree(runs["tree"], tmp_path / "edited")
    saved = json.loads((out / "run.json").read_text())
    assert saved[name] != value
    (out / "run.json").write_text(json.dumps({**saved, name: value}))
    result = run(out, shards, "--out-of-fold", "--out", tmp_path / "s.csv")
    assert result.exit_code == 1
    assert (
        f"edited/run.json is not what {out / 'member-00' / 'best.safetensors'} was trained with" in result.stderr
    )


def bad_arguments(case: str, runs: dict[str, Path], shards: Path, folder: Path) -> list[object]:
    one = runs["tree"]
    other = json.loads((one / "run.json").read_text())["data"]
    other["tree"]["name"] = "another"
    small = {**other, "tree": json.loads((one / "run.json").read_text())["data"]["tree"], "image_px": [64, 64]}
    cases: dict[str, Callable[[], list[object]]] = {
        "no run": lambda: [shards],
        "another tree": lambda: [one, edited_run(one, folder / "other", data=other), shards],
        "another size": lambda: [one, edited_run(one, folder / "small", data=small), shards],
        "a run twice": lambda: [one, one, shards],
        "no such split": lambda: [one, shards_without_test(shards, folder), "--out", folder / "s.csv"],
        "no folder": lambda: [one, shards, "--details", folder / "none" / "d.parquet"],
        "no images": lambda: [one, folder],
        "images and folds": lambda: [one, folder, "--out-of-fold"],
        "resized shards": lambda: [one, shards, "--resize"],
        "fold and blend": lambda: [one, shards, "--out-of-fold", "--blend", "weights"],
        "no truth": lambda: [one, shards, "--truth", folder / "none.csv"],
        "no ids": lambda: [one, shards, "--ids", folder / "none.txt"],
    }
    return cases[case]()


def test_the_commands_of_the_page_on_predicting_run_as_they_stand_there(
    runs: dict[str, Path], shards: Path, kaggle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    links = {"runs/a": runs["tree"], "runs/b": runs["sigmoid"], "shards": shards}
    for name, target in {**links, "images": kaggle_folder / "images_test_rev1"}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).symlink_to(target)
    Path("kaggle").mkdir()
    with zipfile.ZipFile("kaggle/training_solutions_rev1.zip", "w") as file:
        file.write(kaggle_folder / "training_solutions_rev1.csv", "training_solutions_rev1.csv")
    ids = [path.stem for path in Path("images").iterdir()]
    votes = pd.DataFrame(make_votes(np.random.default_rng(0), NUM_TEST), index=ids, columns=COLUMNS)
    for name in ("central_pixel_benchmark.csv", "truth.csv"):
        votes.to_csv(name, index_label="GalaxyID")
    block = block_of_commands("Predicting", "docs/commands.md")
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        if command[0] == "shard_tool":
            result = CliRunner().invoke(shard_tool, command[1:])
        else:
            assert command[:2] == ["python", "predict.py"]
            result = run(*command[2:])
        assert result.exit_code == 0, result.output


def shards_without_test(shards: Path, folder: Path) -> Path:
    out = shutil.copytree(shards, folder / "shards")
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["splits"]["test"], manifest["set_sha256"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


MESSAGES = {
    "no run": (2, "Missing argument 'RUN...'"),
    "another tree": (1, "predict with them one by one"),
    "another size": (1, "was trained on images of (64, 64) px"),
    "a run twice": (1, "has the same weights as"),
    "no such split": (1, "no test shards"),
    "no folder": (1, "none is missing; make it first"),
    "no images": (1, "no image among"),
    "images and folds": (2, "need the shards trained on"),
    "resized shards": (2, "--resize is for images"),
    "fold and blend": (2, "goes with neither"),
    "no truth": (1, "none.csv: there is no such file"),
    "no ids": (1, "none.txt: there is no such"),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_bad_input_is_one_message_and_a_bad_exit_code(
    case: str, runs: dict[str, Path], shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, message = MESSAGES[case]
    result = run(*bad_arguments(case, runs, shards, tmp_path))
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.glob("*.parts"))
