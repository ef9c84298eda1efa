"""What the report needs beyond training and predicting: the extras `report` and `umap`."""

from importlib.util import find_spec

from galaxy_zoo.errors import InputError

MODULES = {
    "bokeh": "bokeh",
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "pytorch_grad_cam": "grad-cam",
    "sklearn": "scikit-learn",
}
"""Modules and the packages they come in."""
METHODS = ("pca", "tsne", "umap")
"""The methods of the embedding; UMAP is an extra of its own."""


def check_extra() -> None:
    """Check, before long work, that the report can be made.

    Raises:
        InputError: a package is missing.
    """
    missing = [package for module, package in MODULES.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"the report needs {', '.join(missing)}; install them with: pip install -e '.[report]'")


def known_methods() -> list[str]:
    """Return the methods of the embedding that can be computed here."""
    return [name for name in METHODS if name != "umap" or find_spec("umap") is not None]
