"""What predict.py computes: of views, of members, of blends of several runs, and of galaxies nobody has seen."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from making import NUM_TEST, NUM_TRAIN, edited_run
from predicting import held_out_ids, predicted, read, run
from trained import RECIPE, metrics
from trained import run as train_here

from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import read_manifest
from galaxy_zoo.submission import read_submission
from galaxy_zoo.tree import load_tree
from galaxy_zoo.votes import rmse

TREE = load_tree("gz2-kaggle")
COLUMNS = list(TREE.columns)
MEMBERS = [("tree", "member-00"), ("tree", "member-01"), ("sigmoid", "member-00")]


def test_each_test_galaxy_is_predicted_once_in_kaggles_format(
    runs: dict[str, Path], shards: Path, kaggle_folder: Path, tmp_path: Path
) -> None:
    predicted(tmp_path / "s.csv", runs["tree"], shards, "--views", 4)
    ids = [path.stem for path in (kaggle_folder / "images_test_rev1").iterdir()]
    assert len(read_submission(tmp_path / "s.csv", TREE, expected_ids=ids)) == NUM_TEST


def test_views_at_several_zooms_are_blended(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    near, far, both = (
        predicted(tmp_path / "s.csv", runs["tree"], shards, "--views", count, "--zooms", zooms)
        for count, zooms in ((2, "1"), (2, "1.25"), (4, "1,1.25"))
    )
    assert (near - far).abs().max(axis=None) > 1e-4
    pd.testing.assert_frame_equal(both, (near + far) / 2, atol=1e-6, rtol=0)


def test_batches_do_not_change_the_prediction(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    tables = [
        predicted(tmp_path / "s.csv", runs["tree"], shards, "--views", 2, "--batch-size", size)
        for size in (4, 128)
    ]
    pd.testing.assert_frame_equal(*tables, atol=1e-6, rtol=0)


def test_one_member_predicts_the_fold_with_exactly_its_validation_score(
    shards: Path, labels: pd.DataFrame, tmp_path: Path
) -> None:
    out, own = tmp_path / "run", tmp_path / "own.toml"
    own.write_text(RECIPE.replace("flip = true", 'flip = true\nnormalisation = "measured"'))
    assert train_here(shards, "--recipe", own, "--fold", "1/5", "--out", out).exit_code == 0
    mean = json.loads((out / "run.json").read_text())["recipe"]["view"]["mean"]
    assert mean == list(read_manifest(shards).channel_mean)
    table = predicted(tmp_path / "s.csv", out, shards, "--split", "train")
    keys = held_out_ids(shards, Fold(1, 5))
    assert rmse(table.loc[keys], labels.loc[keys]) == pytest.approx(min(m["rmse"] for m in metrics(out)), abs=1e-6)


def test_runs_of_several_recipes_are_the_mean_of_all_their_members(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    both = predicted(tmp_path / "both.csv", runs["sigmoid"], runs["tree"], shards, "--views", 2)
    tree = predicted(tmp_path / "tree.csv", runs["tree"], shards, "--views", 2)
    sigmoid = predicted(tmp_path / "sigmoid.csv", runs["sigmoid"], shards, "--views", 2)
    pd.testing.assert_frame_equal(both, (2 * tree + sigmoid) / 3, atol=1e-7, rtol=0)


def test_a_blend_is_fitted_on_the_held_out_galaxies_and_its_scores_are_shown(
    runs: dict[str, Path], shards: Path, labels: pd.DataFrame, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    what, ids = (runs["tree"], runs["sigmoid"], shards), held_out_ids(shards, Fold(1, 5))
    members = {str(runs[name] / member) for name, member in MEMBERS}
    everybody = predicted(tmp_path / "s.csv", *what, "--split", "train")
    uniform = rmse(everybody.loc[ids], labels.loc[ids])
    for blend in ("best-k", "weights"):
        with subtests.test(blend=blend):
            result = run(*what, "--blend", blend, "--out", tmp_path / "test.csv")
            assert result.exit_code == 0, result.output
            rows = [line.split() for line in result.stdout.splitlines()]
            fitted = {row[0]: float(row[1]) for row in rows if row[0] in {"uniform", "best-k", "weights"}}
            assert fitted["weights"] <= fitted["best-k"] + 1e-5 <= fitted["uniform"] + 2e-5
            assert {row[3] for row in rows if row[0] in {"1", "2", "3"}} == members
            assert fitted["uniform"] == pytest.approx(uniform, abs=1e-5)
            chosen = predicted(tmp_path / "b.csv", *what, "--split", "train", "--blend", blend)
            assert fitted[blend] == pytest.approx(rmse(chosen.loc[ids], labels.loc[ids]), abs=1e-5)


def test_members_trained_on_several_folds_are_blended_as_one(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    halves = predicted(tmp_path / "a.csv", runs["half-0"], runs["half-1"], shards, "--blend", "weights")
    uniform = predicted(tmp_path / "b.csv", runs["half-0"], runs["half-1"], shards)
    pd.testing.assert_frame_equal(halves, uniform)


def test_without_common_held_out_galaxies_no_blend_is_fitted(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    other = edited_run(runs["sigmoid"], tmp_path / "other", fold="none")
    result = run(other, runs["tree"], shards, "--blend", "best-k", "--out", tmp_path / "s.csv")
    assert result.exit_code == 1
    assert "no galaxy is held out from all members" in result.output


def test_shards_that_a_run_was_not_trained_on_are_no_ground_for_a_blend(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(shards, tmp_path / "shards")
    (other / "manifest.json").write_text((shards / "manifest.json").read_text() + "\n")
    assert run(runs["tree"], other, "--out", tmp_path / "s.csv").exit_code == 0
    result = run(runs["tree"], other, "--out-of-fold", "--out", tmp_path / "s.csv")
    assert result.exit_code == 1
    assert "was not trained on" in result.output


def test_each_training_galaxy_is_predicted_by_the_members_that_have_not_seen_it(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    names = ("half-0", "half-1", "tree")
    alone = {name: predicted(tmp_path / f"{name}.csv", runs[name], shards, "--split", "train") for name in names}
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
    runs: dict[str, Path], shards: Path, labels: pd.DataFrame, tmp_path: Path
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


def test_members_that_held_nothing_out_are_refused(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    result = run(edited_run(runs["tree"], tmp_path / "all", fold="none"), shards, "--out-of-fold")
    assert result.exit_code == 1
    assert "all have seen every galaxy" in result.output


def test_details_hold_the_votes_and_how_far_views_and_members_disagree(
    runs: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    options = ["--views", 4, "--details", tmp_path / "d.parquet"]
    blended = predicted(tmp_path / "s.csv", runs["half-0"], runs["half-1"], shards, *options)
    table = pd.read_parquet(tmp_path / "d.parquet").set_index("GalaxyID").loc[blended.index]
    np.testing.assert_allclose(table[COLUMNS], blended, atol=1e-7)
    members = [predicted(tmp_path / "m.csv", runs[name], shards, "--views", 4) for name in ("half-0", "half-1")]
    spread = np.stack(members).std(axis=0)
    np.testing.assert_allclose(table[[f"{each}_member_spread" for each in COLUMNS]], spread, atol=1e-6)
    assert table[[f"{each}_view_spread" for each in COLUMNS]].to_numpy().max() > 0


def test_one_view_of_one_member_has_no_spread(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
    predicted(tmp_path / "s.csv", runs["half-0"], shards, "--details", tmp_path / "d.parquet")
    spreads = pd.read_parquet(tmp_path / "d.parquet").filter(like="_spread")
    assert spreads.shape == (NUM_TEST, 2 * len(COLUMNS))
    assert (spreads == 0).all(axis=None)


def test_embeddings_are_what_the_last_layer_votes_by(runs: dict[str, Path], shards: Path, tmp_path: Path) -> None:
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
