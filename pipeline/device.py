"""Choose the device, and set how torch uses it."""

import click
import torch


def choose_device(name: str) -> torch.device:
    """Return the device that an option names: "auto" (CUDA if there is one), "cpu" or "cuda".

    Raises:
        click.BadParameter: CUDA was asked for and is not available.
    """
    available = torch.cuda.is_available()
    torch.backends.cudnn.benchmark = True  # shapes repeat, so searching for the fastest kernel pays off
    if name == "cuda" and not available:
        raise click.BadParameter("there is no CUDA device that torch can use", param_hint="--device")
    return torch.device("cuda" if name != "cpu" and available else "cpu")
