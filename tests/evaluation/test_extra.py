"""What the report needs."""

import pytest

from evaluation import extra


def test_umap_is_known_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, methods in ((None, ["pca", "tsne"]), (object(), ["pca", "tsne", "umap"])):
        monkeypatch.setattr(extra, "find_spec", lambda name, found=found: found)
        assert extra.known_methods() == methods
