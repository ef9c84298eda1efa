"""A tiny Kaggle download, on the disk once for all tests that only read it."""

from copy import deepcopy
from pathlib import Path

import pytest
from kaggle_download import Download, make_download, pack


@pytest.fixture(scope="session")
def whole_download() -> Download:
    return make_download()


@pytest.fixture
def download(whole_download: Download) -> Download:
    """A download to spoil."""
    return deepcopy(whole_download)


@pytest.fixture(scope="session")
def kaggle(whole_download: Download, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked download; not to be changed."""
    return whole_download.write_folder(tmp_path_factory.mktemp("kaggle"))


@pytest.fixture(scope="session")
def packed(kaggle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed download; not to be changed."""
    out = tmp_path_factory.mktemp("packed") / "shards"
    result = pack(kaggle, out)
    assert result.exit_code == 0, result.stderr
    return out
