from pathlib import Path
from typing import get_args

import pytest
import torch

from ensemble import model
from ensemble.model import precision_on
from ensemble.recipe import Precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_cpu_computes_in_bf16_only_if_asked_to_and_able_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_bf16, expected in [(True, {"bf16"}), (False, set())]:
        monkeypatch.setattr(model, "cpu_has_bf16", lambda has_bf16=has_bf16: has_bf16)
        on_cpu, on_gpu = (
            {asked for asked in get_args(Precision) if precision_on(device, asked) == "bf16"}
            for device in (CPU, GPU)
        )
        assert on_cpu == expected
        assert on_gpu == {"auto", "bf16"}


FLAGS = [
    ("fma avx2", False),
    ("avx512f avx512_vnni", False),
    ("avx512_bf16 clzero", True),
    ("amx_tile amx_bf16", True),
]


def test_the_flags_of_a_cpu_say_whether_it_has_bf16(
    monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for flags, has_bf16 in FLAGS:
        with subtests.test(flags=flags):
            monkeypatch.setattr(Path, "read_text", lambda _, flags=flags: f"flags\t\t: fpu {flags}\n")
            assert model.cpu_has_bf16.__wrapped__() == has_bf16
