"""The loader: samples in the order of an epoch, decoded by DALI, as batches of views on the device.

    loader = Loader(samples, RandomViews(view, seeds=(1, 2)), batch_size=256, device=torch.device("cuda"), seed=0)
    for batch in loader.epoch(0):
        batch.views[0]                # of the member with seed 1; decoded once for all members

On a GPU one DALI graph does everything. On a CPU DALI decodes and `warp.WarpKernel` does the rest, unless
`backend="dali"` asks for the whole graph there too.
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.errors import ShardError
from pipeline.augment import Parameters, Views
from pipeline.graph import PREFETCHED_BATCHES, decode_graph, view_graph
from pipeline.order import epoch_order, num_steps, rank_share
from pipeline.shards import Samples
from pipeline.warp import WarpKernel

Backend = Literal["auto", "dali", "opencv"]


@dataclass(frozen=True)
class Batch:
    """One batch of one rank.

    views: for each view (of a member, or for testing) the images, shape (batch, 3, size, size), channels-last,
        normalised; float16 on a GPU, float32 on a CPU. The caller owns them.
    votes: float32, shape (batch, answers), on the same device; NaN where missing.
    ids: text, shape (batch,), on the host.
    """

    views: tuple[Tensor, ...]
    votes: Tensor
    ids: NDArray[np.str_]


@dataclass(frozen=True)
class _Plan:
    """What goes into one batch."""

    samples: NDArray[np.int64]
    views: list[Parameters]


class Loader:
    """Batches of views of `samples`, each sample once an epoch over all ranks.

    Args:
        batch_size: of this rank.
        shuffle: another order each epoch, from `seed`; otherwise the order of `samples`.
        num_threads: for decoding and warping; default: the cores this process may use.
        backend: "dali" for DALI's graph, "opencv" for DALI's decoder and the warp kernel (CPU only), "auto" for
            the faster one on `device`.
        hw_decoder_load: share of the images that the hardware JPEG engine of a GPU decodes; default: DALI's.
    """

    def __init__(
        self,
        samples: Samples,
        views: Views,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_threads: int | None = None,
        backend: Backend = "auto",
        hw_decoder_load: float | None = None,
    ) -> None:
        self._samples, self._views = samples, views
        self._batch_size, self._shuffle, self._seed = batch_size, shuffle, seed
        self._rank, self._world_size = rank, world_size
        self._device, self._hw_decoder_load = torch.device(device), hw_decoder_load
        self._num_threads = num_threads or len(os.sched_getaffinity(0))
        self._stamp = views.view.stamp(samples.image_px)
        self._kernel = self._make_kernel(backend)
        self._pipeline: Any = None
        self._plans: Iterator[_Plan] = iter(())
        self._in_flight: deque[_Plan] = deque()

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return num_steps(len(self._samples), self._batch_size * self._world_size)

    @property
    def num_samples(self) -> int:
        """Samples of an epoch over all ranks."""
        return len(self._samples)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on; the last one may be short (or empty, on some ranks).

        Leaving it half-way is fine; only one epoch of a loader can be under way at a time.

        Raises:
            ShardError: an image does not decode; names shard, sample and offset.
        """
        self._plans = self._plan(epoch, start)
        self._in_flight.clear()
        if self._pipeline is None:
            self._pipeline = self._build()
        finished = False
        try:
            yield from self._batches()
            if start < len(self) and not self._share(len(self) - 1):
                yield self._empty_batch()
            finished = True
            self._pipeline.reset()
        finally:
            if not finished:  # batches are still under way in it, and DALI cannot reset in mid-epoch
                self._pipeline = None

    def samples_before(self, step: int) -> int:
        """How many samples this rank has seen in an epoch before `step`."""
        return sum(len(self._share(earlier)) for earlier in range(step))

    def close(self) -> None:
        """End the threads and free the buffers. The loader cannot be used afterwards."""
        self._pipeline = None
        if self._kernel is not None:
            self._kernel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_kernel(self, backend: Backend) -> WarpKernel | None:
        if backend == "opencv" and self._device.type != "cpu":
            raise ValueError("the opencv backend works on the CPU only; use backend='dali' on a GPU")
        if backend == "dali" or self._device.type != "cpu":
            return None
        return WarpKernel(self._views.view, self._stamp, num_threads=self._num_threads)

    def _build(self) -> Any:
        on_gpu = self._device.type == "cuda"
        options = {
            "batch_size": self._batch_size,
            "num_threads": self._num_threads,
            "device_id": (self._device.index or 0) if on_gpu else None,
            "prefetch_queue_depth": PREFETCHED_BATCHES,
        }
        if self._kernel is not None:
            return decode_graph(self._feed, self._stamp, **options)
        dtype = torch.float16 if on_gpu else torch.float32
        return view_graph(
            self._feed,
            view=self._views.view,
            stamp=self._stamp,
            num_views=len(self._views),
            dtype=dtype,
            on_gpu=on_gpu,
            hw_decoder_load=self._hw_decoder_load,
            **options,
        )

    def _share(self, step: int) -> range:
        return rank_share(len(self._samples), step, self._batch_size, rank=self._rank, world_size=self._world_size)

    def _plan(self, epoch: int, start: int) -> Iterator[_Plan]:
        count = len(self._samples)
        order = epoch_order(count, seed=self._seed, epoch=epoch) if self._shuffle else np.arange(count)
        for step in range(start, len(self)):
            positions = self._share(step)
            if not positions:  # the last step of a rank that gets nothing of it
                return
            samples = order[positions.start : positions.stop]
            yield _Plan(samples, self._views.parameters(self._stamp, epoch, positions))

    def _feed(self) -> list[Any]:
        """The inputs of the next batch; DALI calls this ahead of time."""
        plan = next(self._plans)
        self._in_flight.append(plan)
        jpegs = self._samples.jpegs(plan.samples)
        if self._kernel is not None:
            return [jpegs]
        return [jpegs, *(each for view in plan.views for each in _graph_inputs(view))]

    def _batches(self) -> Iterator[Batch]:
        while True:
            try:
                outputs = self._pipeline.run()
            except StopIteration:
                return
            except RuntimeError as error:
                raise self._decoding_error() or error from error
            plan = self._in_flight.popleft()
            yield Batch(
                self._images(outputs, plan),
                torch.from_numpy(self._samples.votes[plan.samples]).to(self._device, non_blocking=True),
                self._samples.keys[plan.samples],
            )

    def _empty_batch(self) -> Batch:
        """What a rank gets in the last step where there are fewer samples than ranks."""
        size = self._views.view.size_px
        dtype = torch.float32 if self._device.type == "cpu" else torch.float16
        images = torch.empty(0, 3, size, size, dtype=dtype, device=self._device)
        votes = torch.from_numpy(self._samples.votes[:0]).to(self._device)
        return Batch((images,) * len(self._views), votes, self._samples.keys[:0])

    def _images(self, outputs: Any, plan: _Plan) -> tuple[Tensor, ...]:
        if self._kernel is not None:
            windows = list(np.from_dlpack(outputs[0].as_tensor()))
            return self._kernel(windows, plan.views)
        return tuple(torch.utils.dlpack.from_dlpack(output.as_tensor()).permute(0, 3, 1, 2) for output in outputs)

    def _decoding_error(self) -> ShardError | None:
        """Find the sample under way that does not decode; DALI only says that one of the batch did not."""
        for plan in self._in_flight:
            for sample, jpeg in zip(plan.samples.tolist(), self._samples.jpegs(plan.samples), strict=True):
                try:
                    simplejpeg.decode_jpeg(jpeg, strict=True)
                except ValueError as error:
                    return ShardError(
                        f"{self._samples.describe(sample)} does not decode: {error}; "
                        "list all such samples with: shard_tool lint"
                    )
        return None


def _graph_inputs(view: Parameters) -> list[NDArray[np.float32]]:
    """A view's parameters as inputs of `graph.view_graph`."""
    if view.colours is None:
        return [view.warps]
    return [view.warps, np.ascontiguousarray(view.colours[:, :, :3]), 255 * view.colours[:, :, 3]]
