"""Choose the device, and set how torch uses it."""

import click
import torch


def choose_device(name: str) -> torch.device:
    """Return the device that an option names; let cuDNN search for its fastest kernels.

    name: "auto" (CUDA if there is one), "cpu" or "cuda".

    Raises:
        click.BadParameter: CUDA was asked for and there is none; says why.
    """
    available = torch.cuda.is_available()
    torch.backends.cudnn.benchmark = True  # shapes repeat, so searching for the fastest kernel pays off
    if name == "cuda" and not available:
        raise click.BadParameter(why_no_cuda(), param_hint="--device")
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def why_no_cuda() -> str:
    """Return torch's reason why CUDA is not usable, where it is not."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:  # the first where torch was built without CUDA
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        return " ".join(filter(None, ("CUDA", torch.version.cuda, f"is not usable ({reason})")))
    return "CUDA is usable"
