"""What the report needs beyond training and predicting: the extra `report`."""

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


def check_extra() -> None:
    """Check, before long work, that the report can be made.

    Raises:
        InputError: a package is missing.
    """
    missing = [package for module, package in MODULES.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"the report needs {', '.join(missing)}; install them with: pip install -e '.[report]'")


def has_umap() -> bool:
    """Whether UMAP can be computed."""
    return find_spec("umap") is not None
