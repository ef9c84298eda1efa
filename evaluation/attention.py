"""Show what a network looks at: Grad-CAM and AblationCAM of convolutional layers.

Source: Selvaraju et al. 2017 (Grad-CAM), Desai & Ramaswamy 2020 (Ablation-CAM), as in the package grad-cam.
"""

import contextlib
import copy
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import AblationCAM, GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from evaluation.evidence import Evidence
from evaluation.gallery import to_uri
from evaluation.section import Fragment, Section
from galaxy_zoo.errors import InputError
from galaxy_zoo.progress import progress
from galaxy_zoo.text import shown
from galaxy_zoo.tree import DecisionTree
from galaxy_zoo.view import View
from pipeline.warp import rgb_pixels

PICTURE_PX = 144
METHODS = {"Grad-CAM": GradCAM, "AblationCAM": AblationCAM}
BATCH_SIZE = 64
MOST_CHANNELS = 256
"""Most channels to ablate: AblationCAM predicts once for each. Larger layers use the most telling ones, by grad-cam's
measure."""


@dataclass(frozen=True)
class Looked:
    """A galaxy to explain: its position, and the column of the answer whose vote to explain."""

    position: int
    column: int


@dataclass(frozen=True)
class Picture:
    """A picture in the fragment `attention.html`."""

    uri: str
    alt: str
    caption: str


def positions_of(ids: Sequence[str], keys: Sequence[str]) -> list[int]:
    """Return the positions of ids among the keys of the galaxies evaluated.

    Raises:
        InputError: an id is not among them.
    """
    at = {key: position for position, key in enumerate(keys)}
    if unknown := [each for each in ids if each not in at]:
        raise InputError(
            f"--galaxy {unknown[0]}: not among the {len(at):,} galaxies evaluated; give one of those, such as {keys[0]}"
        )
    return [at[each] for each in ids]


def choose(evidence: Evidence, count: int, ids: Sequence[str] = ()) -> list[Looked]:
    """Return the galaxies to explain: those of `ids`, or `count` galaxies, each typical of an answer.

    For a galaxy named by its id, explain the answer whose predicted votes exceed the mean the most.

    Raises:
        InputError: an id is not among the validation galaxies.
    """
    _, predicted = evidence.main
    if not ids:
        columns = _telling_columns(evidence.tree)[:count]
        return [Looked(int(np.nan_to_num(evidence.validation.votes[:, c], nan=-1).argmax()), c) for c in columns]
    positions = positions_of(ids, evidence.validation.galaxies.keys.tolist())
    above = predicted - np.nan_to_num(evidence.mean_votes)
    return [Looked(each, int(above[each].argmax())) for each in positions]


def choose_layers(network: nn.Module, names: Sequence[str] = ()) -> list[str]:
    """Return the layers to explain: those of `names`, or the first two convolutions and the last.

    Raises:
        InputError: the network has no layer of that name, or no convolutions at all.
    """
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    known = dict(network.named_modules())
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"--layer {unknown[0]}: no such layer; convolutions: {', '.join(convolutions)}")
    return list(names) or list(dict.fromkeys([*convolutions[:2], *convolutions[-1:]]))


def section(
    evidence: Evidence,
    network: nn.Module,
    layers: Sequence[str],
    looked: Sequence[Looked],
    images: Tensor,
    view: View,
) -> Section:
    """Build the section of heat maps.

    Args:
        network: turns images into votes, without autocast.
        images: the plain views of `looked`, shape (galaxies, 3, size, size), normalised.
    """
    columns = [each.column for each in looked]
    maps = dict(heat_maps(network, layers, images.float(), columns))
    answers = [f"{q.name}: {a}" for q in evidence.tree.questions for a in q.answers]
    rows = []
    for number, each in enumerate(looked):
        pixels = rgb_pixels(images[number], view)
        key, answer = shown(evidence.validation.galaxies.keys[each.position]), answers[each.column]
        pictures = [Picture(to_uri(pixels, PICTURE_PX), f"galaxy {key}", "what it gets")]
        pictures += [
            Picture(_overlay(pixels, found[number]), f"{name}, galaxy {key}", name) for name, found in maps.items()
        ]
        vote = evidence.main[1][each.position, each.column]
        rows.append({"id": key, "answer": answer, "vote": float(vote), "pictures": pictures})
    name = evidence.predictions[0].name
    lead = (
        f"Where the first member of {name} looks for the vote of one answer: warm where a layer's channels speak for "
        "it, by their gradients (Grad-CAM) or by what is lost without them (AblationCAM). Early layers see edges, "
        "late ones shapes."
    )
    return Section(
        key="attention", title="What the network looks at", lead=lead, blocks=(Fragment("attention.html", rows),)
    )


def heat_maps(
    network: nn.Module, layers: Sequence[str], images: Tensor, columns: Sequence[int]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield method and layer in words, and maps in [0, 1] of shape (galaxies, size, size). Show progress.

    Args:
        columns: for each image the column of the answer to explain.
    """
    frozen = _without_inplace(network)
    targets = [ClassifierOutputTarget(column) for column in columns]
    modules = dict(frozen.named_modules())
    convolutions = [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]
    with progress(total=len(METHODS) * len(layers), unit="layers", desc="what the network looks at") as bar:
        for layer in layers:
            channels, _, width = _maps_of(frozen, modules[layer], images[:1], layer)
            for method, kind in METHODS.items():
                cam = kind(model=frozen, target_layers=[modules[layer]])
                if isinstance(cam, AblationCAM):
                    cam.batch_size = BATCH_SIZE
                    # it takes this share twice: of the channels inside and of those outside the object
                    cam.ratio_channels_to_ablate = min(1.0, MOST_CHANNELS / 2 / channels)
                # silence its own progress bars, one for each galaxy, and divisions by channels that are all 0
                with (
                    cam,
                    contextlib.redirect_stderr(io.StringIO()),
                    np.errstate(divide="ignore", invalid="ignore"),
                ):
                    found = cam(input_tensor=images, targets=targets)
                at = f"convolution {convolutions.index(layer) + 1} of {len(convolutions)}, " * (
                    layer in convolutions
                )
                yield f"{method}, {at}layer {layer} ({channels} maps of {width} px)", np.nan_to_num(found)
                bar.update()


def _telling_columns(tree: DecisionTree) -> list[int]:
    """Return the first answer of each question; all answers if the tree has one question."""
    if len(tree.questions) == 1:
        return list(range(len(tree.columns)))
    return [columns.start for columns in tree.slices]


def _without_inplace(network: nn.Module) -> nn.Module:
    """Return a copy of the network that does not overwrite the output of a layer, for hooks to look at."""
    copied = copy.deepcopy(network).eval()
    for module in copied.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010 - by its name, as it is on layers of many kinds
    return copied


def _maps_of(network: nn.Module, module: nn.Module, images: Tensor, name: str) -> tuple[int, int, int]:
    """Return channels, height and width of the output of a layer.

    Raises:
        InputError: the output has no maps.
    """
    shapes: list[tuple[int, ...]] = []
    handle = module.register_forward_hook(lambda *args: shapes.append(tuple(getattr(args[2], "shape", ()))))
    with handle, torch.no_grad():
        network(images)
    if not shapes or len(shapes[0]) != 4:
        raise InputError(f"--layer {name}: puts out no maps (batch, channels, height, width); name a convolution")
    _, channels, height, width = shapes[0]
    return channels, height, width


def _overlay(pixels: NDArray[np.uint8], found: NDArray[np.float32]) -> str:
    image = pixels.astype(np.float32) / 255
    return to_uri(
        show_cam_on_image(image, found, use_rgb=True, colormap=cv2.COLORMAP_INFERNO, image_weight=0.5), PICTURE_PX
    )
