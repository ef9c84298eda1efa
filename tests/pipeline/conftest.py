"""The ways to make views, as options of a loader: what one of them has to do, all have.

Without a GPU the Triton kernel runs in Triton's interpreter, which has to be switched on before Triton is imported:
test_warp.py starts the tests whose way is triton-cpu in a process of its own.
"""

import os

import pytest
import torch

GPU = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("default"),  # torch warns about the card's settings
)


def way(backend: str, device: str) -> object:
    marks = GPU if device == "cuda" else ()
    return pytest.param({"backend": backend, "device": device}, id=f"{backend}-{device}", marks=marks)


IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GRAPHS = [way("dali", "cpu"), way("dali", "cuda")]
KERNELS = [way("opencv", "cpu"), way("triton", "cuda")]
if IS_INTERPRETED:
    GRAPHS, KERNELS = [], [way("triton", "cpu")]


@pytest.fixture
def _whole_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the interpreter, whose time goes by programs, make up to 32 x 32 pixels in one."""
    if IS_INTERPRETED:
        monkeypatch.setattr("pipeline.warp_triton.PIXELS_PER_PROGRAM", 1024)


@pytest.fixture(params=[*GRAPHS, *KERNELS])
def by(request: pytest.FixtureRequest, _whole_views: None) -> dict[str, str]:
    """Options of a loader: a backend and its device."""
    return request.param


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest, _whole_views: None) -> dict[str, str]:
    """Options of a loader that can keep stamps."""
    return request.param


@pytest.fixture(params=[way("auto", "cpu"), way("auto", "cuda")])
def place(request: pytest.FixtureRequest) -> dict[str, str]:
    """Options of a loader: a device, with the backend that is chosen for it."""
    return request.param


@pytest.fixture(params=[each for each in KERNELS if "triton" in each.id])
def triton(request: pytest.FixtureRequest) -> torch.device:
    """The device that the Triton kernel runs on."""
    return torch.device(request.param["device"])
