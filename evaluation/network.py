"""The sections about a network: what it looks at, and its embedding."""

from collections.abc import Callable, Sequence
from functools import partial

import click
import numpy as np
import torch
from torch import Tensor, nn

from evaluation import attention, embedding
from evaluation.evidence import Evidence
from evaluation.galaxies import Sets, Subset
from evaluation.request import ReportRequest
from evaluation.section import Section
from galaxy_zoo.view import View
from galaxy_zoo.votes import Floats
from prediction.embedding import Embedder
from prediction.members import TrainedMember


def embed(network: nn.Module, subset: Subset, view: View, count: int) -> Floats:
    """Return the input of the last layer for the first `count` samples, shape (samples, features)."""
    embedder = Embedder(network, remedy="pass --points 0")
    found: list[Floats] = []
    with subset.open(view, plain=True) as loader, torch.inference_mode():
        for batch in loader.epoch(0):
            network(batch.views[0].float())
            found.append(embedder.take().cpu().numpy())
            if sum(map(len, found)) >= count:
                break
    embedder.remove()
    return np.concatenate(found)[:count]


def images_of(subset: Subset, positions: Sequence[int], view: View) -> Tensor:
    """Return the plain views of samples, float32, shape (positions, 3, size, size)."""
    keys = [str(subset.samples.keys[at]) for at in positions]
    found: dict[str, Tensor] = {}
    with subset.open(view, plain=True) as loader:
        for batch in loader.epoch(0):
            found |= {key: batch.views[0][row] for row, key in enumerate(batch.ids.tolist()) if key in keys}
            if len(found) == len(set(keys)):
                break
    return torch.stack([found[key] for key in keys]).float()


def check_wanted(first: TrainedMember, validation: Subset, wanted: ReportRequest) -> None:
    """Check, before anything is predicted, that the galaxies and layers to show maps of exist.

    Raises:
        InputError: one does not.
    """
    attention.positions_of(wanted.galaxies, validation.samples.keys.tolist())
    if wanted.layers:
        network = first.load(validation.source.reading.device, in_float32=True).network
        attention.choose_layers(network, wanted.layers)


def network_sections(
    evidence: Evidence, first: TrainedMember, sets: Sets, wanted: ReportRequest
) -> list[Callable[[], Section]]:
    """Return the sections about the first member's network: what it looks at, and its embedding."""
    view = first.run.recipe.view
    # float32: gradients and maps become numpy arrays, which have no bf16
    network = first.load(sets.validation.source.reading.device, in_float32=True).network.eval()
    sections: list[Callable[[], Section]] = []
    looked = attention.choose(evidence, wanted.cams, wanted.galaxies)
    layers = attention.choose_layers(network, wanted.layers)
    if len(view.turns_deg) > 1:
        click.echo(
            f"not shown: what {first.name} looks at, for it sees several turns of a galaxy at once", err=True
        )
    elif looked and layers:
        images = images_of(sets.validation, [each.position for each in looked], view)
        sections.append(partial(attention.section, evidence, network, layers, looked, images, view))
    if wanted.points and wanted.methods:
        subsets = [each for each in (sets.validation, sets.training) if each is not None]
        found = [embed(network, each, view, -(-wanted.points // len(subsets))) for each in subsets]
        features = embedding.Features(found[0], found[1] if len(found) > 1 else None)
        sections.append(partial(embedding.section, evidence, features, wanted.methods))
    return sections
