"""Imports go one way, from `galaxy_zoo` up to the scripts."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "galaxy_zoo": set(),
    "shard_tool": {"galaxy_zoo"},
    "pipeline": {"galaxy_zoo"},
    "ensemble": {"galaxy_zoo"},
    "training": {"galaxy_zoo", "pipeline", "ensemble"},
    "prediction": {"galaxy_zoo", "shard_tool", "pipeline", "ensemble", "training"},
    "evaluation": {"galaxy_zoo", "shard_tool", "pipeline", "ensemble", "training", "prediction"},
}
OURS = {*MAY_IMPORT, "train", "predict", "evaluate", "views"}
FLOORS = ["images", "source", "shards", "commands"]
"""The packages of shard_tool: each imports those before it only."""
FOR_TESTS = {"tests", "benchmarks", "pytest", "hypothesis"}
LOADS_TORCH = {"torch", "torchvision", "timm", "triton", "webdataset", "tensorboard"}


def modules_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def modules() -> list[Path]:
    return [path for package in MAY_IMPORT for path in modules_of(package)] + sorted(ROOT.glob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[str]:
    """The modules a file imports anywhere in it, also inside functions; relative ones with their package."""
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def top(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def wrong_imports(paths: list[Path], banned: set[str]) -> set[str]:
    """Which of these files import a module of a banned package, or of one below it."""
    return {
        f"{name_of(path)} imports {module}"
        for path in paths
        for module in imports_of(path)
        if any(f"{module}.".startswith(f"{package}.") for package in banned)
    }


def test_a_package_imports_of_ours_only_what_lies_below_it(subtests: pytest.Subtests) -> None:
    for package, below in MAY_IMPORT.items():
        with subtests.test(package=package):
            assert not wrong_imports(modules_of(package), OURS - below - {package})
    for number, floor in enumerate(FLOORS):
        with subtests.test(floor=floor):
            above = {f"shard_tool.{name}" for name in FLOORS[number + 1 :]}
            assert not wrong_imports(modules_of(f"shard_tool/{floor}"), above)


def test_what_is_heavy_or_for_tests_is_imported_only_where_it_belongs() -> None:
    assert not wrong_imports(modules(), FOR_TESTS)
    assert not wrong_imports(modules_of("galaxy_zoo") + modules_of("shard_tool"), LOADS_TORCH)
    assert not wrong_imports([path for path in modules() if top(name_of(path)) != "pipeline"], {"nvidia"})


def test_the_data_needs_only_numpy_and_pandas_besides_its_console_and_its_stores() -> None:
    known = {"galaxy_zoo", "numpy", "pandas", *sys.stdlib_module_names}
    others = {
        (name_of(path), top(module))
        for path in modules_of("galaxy_zoo")
        for module in imports_of(path)
        if top(module) not in known
    }
    assert others == {
        ("galaxy_zoo.console", "click"),
        ("galaxy_zoo.progress", "tqdm"),
        ("galaxy_zoo.stores", "fsspec"),
    }


@pytest.mark.slow
def test_data_and_packing_run_without_torch_dali_webdataset_or_fsspec_being_loaded() -> None:
    names = [name_of(path) for package in ("galaxy_zoo", "shard_tool") for path in modules_of(package)]
    imports = "\n".join(f"import {name}" for name in names if not name.endswith("__main__"))
    report = "import sys; print(*sorted({'torch', 'nvidia.dali', 'webdataset', 'fsspec'} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{report}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == []


def test_every_package_and_script_is_known_to_these_tests() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    scripts = {path.stem for path in ROOT.glob("*.py")}
    assert packages <= set(MAY_IMPORT) | {"tests", "benchmarks"}
    assert scripts <= OURS


FORMS = [
    ("import torch.nn as nn, pandas", ["torch.nn", "pandas"]),
    ("def f():\n    from pipeline.loader import Loader", ["pipeline.loader.Loader"]),
    ("from . import view", ["folder.view"]),
    ("from .view import View", ["folder.view.View"]),
    ("from ..pipeline import loader", ["pipeline.loader"]),
]


def test_every_form_of_import_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    for text, found in FORMS:
        with subtests.test(text=text):
            monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
            path = tmp_path / "folder" / "module.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            assert list(imports_of(path)) == found
