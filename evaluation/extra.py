"""Packages that the report needs beyond training and prediction: the extras `report` and `umap`."""

from importlib.util import find_spec

from galaxy_zoo.errors import InputError

MODULES = {
    "bokeh": "bokeh",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "pytorch_grad_cam": "grad-cam",
    "sklearn": "scikit-learn",
}
"""Module -> package it comes in."""
METHODS = ("pca", "tsne", "umap")
"""The embedding methods; UMAP is a separate extra."""


def check_extra() -> None:
    """Check, before long work, that the report can be made.

    Raises:
        InputError: a package is missing.
    """
    missing = [package for module, package in MODULES.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"the report needs more packages; install them with: pip install {' '.join(missing)}")


def known_methods() -> list[str]:
    """Return the embedding methods whose packages are installed."""
    return [name for name in METHODS if name != "umap" or find_spec("umap") is not None]
