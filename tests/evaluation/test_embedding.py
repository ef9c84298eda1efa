import numpy as np
import pytest

from evaluation.embedding import Features, project, section
from evaluation.evidence import Evidence


def two_clusters() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    far = np.arange(40) % 2
    return rng.normal(0, 1, (40, 20)) + 12 * far[:, None], far


def separation(points: np.ndarray, far: np.ndarray) -> float:
    """How far the clusters are apart, over how wide they are."""
    first, second = points[far == 0], points[far == 1]
    return float(np.linalg.norm(first.mean(0) - second.mean(0)) / max(first.std(), second.std()))


def test_what_is_far_apart_stays_apart_and_a_projection_repeats() -> None:
    features, far = two_clusters()
    methods = ["pca", "tsne"]
    again = project(features, methods)
    for method, points in project(features, methods).items():
        assert points.shape == (40, 2)
        assert separation(points, far) > 1
        np.testing.assert_array_equal(points, again[method])
    assert list(again) == methods


@pytest.mark.slow
def test_umap_keeps_apart_what_is_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes a quarter of a minute, these points a second
    pytest.importorskip("umap", reason="the extra 'umap' is not installed")
    features, far = two_clusters()
    points = project(features, ["umap"])["umap"]
    assert points.shape == (40, 2)
    assert separation(points, far) > 1


def test_a_handful_of_galaxies_is_not_laid_out(evidence: Evidence) -> None:
    made = section(evidence, Features(np.ones((5, 8), np.float32), None), ["pca"])
    assert made.blocks == ()
    assert made.lead.startswith("5 galaxies are too few")
