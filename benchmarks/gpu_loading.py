"""How fast the loader gives batches on the device, and the reader below it alone."""

import numpy as np

from benchmarks.gpu_results import Result, measured
from benchmarks.gpu_setup import Setup
from pipeline.augment import RandomViews
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.order import epoch_order

RECIPES = ("quick", "ng_cnn", "ng_resnet50")
NUM_VIEWS = (1, 4)


def loader(setup: Setup) -> list[Result]:
    """Samples a second of whole epochs, after one to warm up, at each recipe's view."""
    results = [measured("reader alone, bytes copied", "samples/s", reading_rates(setup))]
    samples = setup.samples()
    for name in RECIPES:
        view = setup.recipe(name).view
        for num_views in NUM_VIEWS:
            views = RandomViews(view, tuple(range(num_views)))
            with Loader(
                samples, views, Sampling(batch_size=setup.batch_size), Decoding(device=setup.device)
            ) as batches:
                rates = setup.rates(lambda epoch, batches=batches: count_samples(batches, epoch))  # type: ignore[misc]
            what = f"{name}, {view.size_px} px, {num_views} view{'s' * (num_views > 1)} of each sample"
            results.append(measured(what, "samples/s", rates))
    return results


def count_samples(batches: Loader, epoch: int) -> int:
    """Run through an epoch; gives its samples."""
    return sum(len(batch.ids) for batch in batches.epoch(epoch))


def reading_rates(setup: Setup) -> list[float]:
    """Samples a second whose JPEG bytes are copied from the shards, in shuffled order."""
    samples, size = setup.samples(), setup.batch_size

    def work(epoch: int) -> int:
        order = epoch_order(len(samples), seed=0, epoch=epoch)
        for start in range(0, len(order), size):
            np.concatenate(samples.jpegs(order[start : start + size]))
        return len(samples)

    return setup.rates(work)
