"""A whole prediction: predict galaxies with all members, fit the blend if asked, and write the files."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from operator import itemgetter
from typing import Any

import click
import numpy as np

from ensemble.model import precision_on
from galaxy_zoo.checking import Reference, read_reference
from galaxy_zoo.errors import ImageError, RunError
from galaxy_zoo.manifest import Shard
from galaxy_zoo.submission import read_submission, warnings_about, warnings_about_rows
from galaxy_zoo.text import counted, shown
from galaxy_zoo.version import __version__
from galaxy_zoo.walk import describe_walk
from pipeline.device import choose_device
from prediction.blend import (
    BLENDS,
    Weights,
    columns_of,
    describe_blends,
    held_out_votes,
    mean_of,
    member_weights,
)
from prediction.members import TrainedMember, find_members
from prediction.outputs import Outputs, Predicted
from prediction.parts import Parts
from prediction.passes import PART_STEPS, Assignment, Passes, by_unseen
from prediction.request import Blend, PredictionRequest
from prediction.source import LINES_SHOWN, Shards, open_source
from training.ranks import Ranks, joined_ranks
from training.run import Run, load_run


def predict(request: PredictionRequest) -> None:
    """Predict and write everything that is asked for.

    Raises:
        ImageError: some images could not be used; all others are predicted.
        InputError: a run, shards, images or a reference cannot be used.
        OutputError: an output cannot be written.
    """
    device = choose_device(request.device)
    with joined_ranks(device) as ranks, ExitStack() as stack:
        runs = [load_run(folder) for folder in request.runs]
        members, outputs = find_members(runs), Outputs(request.out, request.details, request.embeddings)
        outputs.check()
        reference, parts = read_reference(request.ids, request.truth, runs[0].data.tree), Parts(request.out)
        if ranks.is_first:
            stack.enter_context(parts.locked())
        source, num_unusable = stack.enter_context(
            open_source(request, runs, parts=parts, device=device, ranks=ranks)
        )
        prediction = Prediction(
            members=members,
            source=source,
            outputs=outputs,
            out_of_fold=request.out_of_fold,
            blend=request.blend,
        )
        predicted, lines = prediction.run(parts, ranks)
        if predicted is not None:
            parts.end()
            click.echo("\n".join([*lines, *_describe(request, prediction, predicted)]))
            if request.truth and request.predicted_split == "train" and not request.out_of_fold:
                _warn(
                    ["members were trained on some of these galaxies, so the score says little; see --out-of-fold"]
                )
            if reference.is_empty and request.predicted_split == "test" and not request.is_images:
                _warn(warnings_about_rows(len(predicted.ids), runs[0].data.tree))
            _compare(predicted, runs[0], reference)
            if reference.ids is not None:
                read_submission(request.out, runs[0].data.tree, expected_ids=reference.ids)
    if num_unusable:
        images = counted(num_unusable, "image", "images")
        raise ImageError(
            f"{shown(request.source)}: {images} could not be used, see above; repair or remove them; "
            f"{shown(request.out)} holds all others"
        )


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What to predict, with which members, and where to write it."""

    members: Sequence[TrainedMember]
    source: Shards
    outputs: Outputs
    out_of_fold: bool
    blend: Blend

    def run(self, parts: Parts, ranks: Ranks) -> tuple[Predicted | None, list[str]]:
        """Predict what is missing and, on the first rank, write everything.

        Returns:
            What was predicted (None on other ranks), and lines about the blend.

        Raises:
            RunError: held-out galaxies are needed, and the members have held out none.
            OutputError: the folder holds parts of another prediction.
        """
        if ranks.is_first and (num_parts := parts.begin(self.key)):
            click.echo(f"resuming from {num_parts} finished parts in {shown(parts.folder)}", err=True)
        ranks.barrier()
        weights, lines = self._fit(parts, ranks)
        passes = Passes(
            name="predict",
            members=self.members,
            assignments=self._assignments(weights),
            source=self.source,
            parts=parts,
            with_embeddings=self.outputs.embeddings is not None,
        )
        passes.run(ranks)
        tree = self.source.manifest.tree
        return self.outputs.write(passes, weights, tree) if ranks.is_first else None, lines

    @property
    def key(self) -> dict[str, Any]:
        """Everything that decides the bytes of a part."""
        device = self.source.reading.device
        recipes = [json.dumps(member.run.recipe.table, sort_keys=True) for member in self.members]
        return {
            "version": __version__,
            "weights": [member.sha256 for member in self.members],
            "recipes": [sha256(recipe.encode()).hexdigest() for recipe in recipes],
            **self.source.key,
            "precision": [precision_on(device, member.run.recipe.training.precision) for member in self.members],
            "part_steps": PART_STEPS,
            "out_of_fold": self.out_of_fold,
            "blend": self.blend,
            "embeddings": self.outputs.embeddings is not None,
        }

    def _fit(self, parts: Parts, ranks: Ranks) -> tuple[Weights, list[str]]:
        """Return the weight of each member and, if a blend is fitted, lines with the scores of the blends."""
        if self.blend == "uniform":
            return mean_of(range(len(self.members)), len(self.members)), []
        validation = Passes(
            name="validate",
            members=self.members,
            assignments=self._unseen(self.source.training_shards),
            source=self.source,
            parts=parts,
        )
        validation.run(ranks)
        columns = columns_of(self.members)
        held_out = held_out_votes(validation.blocks(), columns, self.source.training_votes())
        blends = {name: held_out.fit(method) for name, method in BLENDS.items()}
        names = [", ".join(self.members[member].name for member in column) for column in columns]
        weights = member_weights(columns, blends[self.blend].weights, len(self.members))
        return weights, describe_blends(held_out, blends, names)

    def _assignments(self, weights: Weights) -> list[Assignment]:
        """Assign the shards to members; members with weight 0 predict nothing."""
        if not self.out_of_fold:
            return [Assignment(self.source.shards, tuple(np.flatnonzero(weights).tolist()))]
        assignments = self._unseen(self.source.shards)
        if not assignments:
            raise RunError("no member held out a fold, so all have seen every galaxy; train with --fold k/K")
        return assignments

    def _unseen(self, shards: Sequence[Shard]) -> list[Assignment]:
        return by_unseen(shards, [self.source.unseen(member.run) for member in self.members])


def _describe(request: PredictionRequest, prediction: Prediction, predicted: Predicted) -> list[str]:
    """Return lines about the prediction; for images also the walks of the first ones down the tree."""
    counts = Counter(member.run.recipe.name for member in prediction.members)
    members = " + ".join(f"{counted(count, 'member')} of {shown(name)}" for name, count in counts.items())
    galaxies, views = counted(len(predicted.ids), "galaxy", "galaxies"), counted(len(request.fixed_views), "view")
    lines = [f"{shown(request.out)}: {galaxies}, {members}, {views}, blend {request.blend}"]
    if request.is_images:
        tree = prediction.source.manifest.tree
        first = sorted(zip(predicted.ids, predicted.votes, strict=True), key=itemgetter(0))[:LINES_SHOWN]
        lines.append("main answers, each with its share of the volunteers who would be asked the question:")
        lines += [f"{shown(sample_id)}: {describe_walk(votes, tree)}" for sample_id, votes in first]
        if (num_others := len(predicted.ids) - len(first)) > 0:
            lines.append(f"... and {num_others:,} more in {shown(request.out)}")
    return lines


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {shown(warning)}", err=True)


def _compare(predicted: Predicted, run: Run, reference: Reference) -> None:
    """Print warnings about what looks broken, and the score if the truth is given."""
    tree, means = run.data.tree, run.data.vote_mean
    training_mean = None if means is None else np.array([np.nan if each is None else each for each in means])
    _warn(warnings_about(predicted.votes, tree, training_mean))
    for line in reference.describe(predicted.ids.tolist(), predicted.votes, tree):
        click.echo(shown(line))
