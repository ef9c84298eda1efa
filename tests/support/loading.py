"""Makes the loaders that tests ask for by single options."""

from dataclasses import fields
from typing import Any

from pipeline.augment import Views
from pipeline.loader import Decoding, Loader, Sampling
from pipeline.shards import Samples


def make_loader(samples: Samples, views: Views, **options: Any) -> Loader:
    """Make a loader; `options` are fields of `Sampling` and `Decoding`."""
    names = {field.name for field in fields(Sampling)}
    sampling = Sampling(**{name: options.pop(name) for name in names & set(options)})
    return Loader(samples, views, sampling, Decoding(**options))
