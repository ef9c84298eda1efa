"""The loader: samples in the order of an epoch, decoded by DALI, as batches of views on the device.

    loader = Loader(samples, RandomViews(view, seeds=(1, 2)), batch_size=256, device=torch.device("cuda"), seed=0)
    for batch in loader.epoch(0):
        batch.views[0]                # of the member with seed 1; decoded once for all members

On a GPU one DALI graph does everything. On a CPU DALI decodes and `warp.WarpKernel` does the rest, unless
`backend="dali"` asks for the whole graph there too.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
from pipeline.graph import PREFETCHED_BATCHES, Feed, decode_graph, view_graph
from pipeline.order import balanced_order, epoch_order, num_steps, rank_share
from pipeline.shards import Samples
from pipeline.warp import WarpKernel

Backend = Literal["auto", "dali", "opencv"]


@dataclass(frozen=True)
class Batch:
    """One batch of one rank.

    views: for each view (of a member, or for testing) the images, shape (batch, 3, size, size), channels-last,
        normalised; float16 on a GPU, float32 on a CPU. Where `View.turns_deg` has several angles, the shape is
        (batch, turns, 3, size, size), channels last in memory. The caller owns them.
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
    """Batches of views of `samples`, each sample once an epoch over all ranks (or as often as `shares` says).

    Args:
        batch_size: of this rank.
        shuffle: another order each epoch, from `seed`; otherwise the order of `samples`.
        shares: how often each sample comes in an epoch on average, to balance classes (`order.class_shares`); an
            epoch stays as long as there are samples. Only with `shuffle`. Default: each exactly once.
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
        shares: NDArray[np.float64] | None = None,
        rank: int = 0,
        world_size: int = 1,
        num_threads: int | None = None,
        backend: Backend = "auto",
        hw_decoder_load: float | None = None,
    ) -> None:
        self._samples, self._views = samples, views
        self._batch_size, self._shuffle, self._seed, self._shares = batch_size, shuffle, seed, shares
        self._rank, self._world_size = rank, world_size
        self._device, self._hw_decoder_load = torch.device(device), hw_decoder_load
        self._num_threads = num_threads or len(os.sched_getaffinity(0))
        self._stamp = views.stamp(samples.image_px)
        self._num_turns = len(views.view.turns_deg)
        self._kernel = self._make_kernel(backend)
        self._idle: _Stream | None = None

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return num_steps(len(self._samples), self._batch_size * self._world_size)

    @property
    def num_samples(self) -> int:
        """Samples of an epoch over all ranks."""
        return len(self._samples)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on; the last one may be short (or empty, on some ranks).

        Leaving it half-way is fine.

        Raises:
            ShardError: an image does not decode; names shard, sample and offset.
        """
        stream, self._idle = self._idle or _Stream(self._build, self._inputs), None
        for plan, outputs in self._decoded(stream, self._plan(epoch, start)):
            votes = torch.from_numpy(self._samples.votes[plan.samples])
            yield Batch(
                _stack_turns(self._images(outputs, plan), self._num_turns),
                votes.to(self._device, non_blocking=True),
                self._samples.keys[plan.samples],
            )
        if start < len(self) and not self._share(len(self) - 1):
            yield self._empty_batch()
        self._idle = stream  # an epoch that is left half-way has batches under way in its stream, which goes

    def samples_before(self, step: int) -> int:
        """How many samples this rank has seen in an epoch before `step`."""
        if step < len(self):
            return step * self._batch_size
        return (step - 1) * self._batch_size + len(self._share(step - 1))

    def close(self) -> None:
        """End the threads and free the buffers. The loader cannot be used afterwards."""
        self._idle = None
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

    def _build(self, feed: Feed) -> Any:
        on_gpu = self._device.type == "cuda"
        options = {
            "batch_size": self._batch_size,
            "num_threads": self._num_threads,
            "device_id": (self._device.index or 0) if on_gpu else None,
            "prefetch_queue_depth": PREFETCHED_BATCHES,
        }
        if self._kernel is not None:
            return decode_graph(feed, self._stamp, **options)
        dtype = torch.float16 if on_gpu else torch.float32
        return view_graph(
            feed,
            view=self._views.view,
            stamp=self._stamp,
            num_views=len(self._views) * self._num_turns,
            dtype=dtype,
            on_gpu=on_gpu,
            hw_decoder_load=self._hw_decoder_load,
            **options,
        )

    def _share(self, step: int) -> range:
        return rank_share(len(self._samples), step, self._batch_size, rank=self._rank, world_size=self._world_size)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not self._shuffle:
            return np.arange(len(self._samples))
        if self._shares is not None:
            return balanced_order(self._shares, seed=self._seed, epoch=epoch)
        return epoch_order(len(self._samples), seed=self._seed, epoch=epoch)

    def _plan(self, epoch: int, start: int) -> Iterator[_Plan]:
        order = self._order(epoch)
        for step in range(start, len(self)):
            positions = self._share(step)
            if not positions:  # the last step of a rank that gets nothing of it
                return
            samples = order[positions.start : positions.stop]
            yield _Plan(samples, self._views.parameters(self._stamp, epoch, positions))

    def _inputs(self, plan: _Plan) -> list[Any]:
        """What DALI's graph is fed for a batch."""
        jpegs = self._samples.jpegs(plan.samples)
        if self._kernel is not None:
            return [jpegs]
        return [jpegs, *(each for view in plan.views for each in _graph_inputs(view))]

    def _decoded(self, stream: "_Stream", plans: Iterator[_Plan]) -> Iterator[tuple[_Plan, Any]]:
        try:
            yield from stream.run(plans)
        except RuntimeError as error:
            if (broken := self._find_broken(stream.under_way)) is None:
                raise
            raise broken from error

    def _empty_batch(self) -> Batch:
        """What a rank gets in the last step where there are fewer samples than ranks."""
        size = self._views.view.size_px
        dtype = torch.float32 if self._device.type == "cpu" else torch.float16
        images = (torch.empty(0, 3, size, size, dtype=dtype, device=self._device),)
        votes = torch.from_numpy(self._samples.votes[:0]).to(self._device)
        views = _stack_turns(images * (len(self._views) * self._num_turns), self._num_turns)
        return Batch(views, votes, self._samples.keys[:0])

    def _images(self, outputs: Any, plan: _Plan) -> tuple[Tensor, ...]:
        if self._kernel is not None:
            windows = list(np.from_dlpack(outputs[0].as_tensor()))
            return self._kernel(windows, plan.views)
        return tuple(torch.utils.dlpack.from_dlpack(output.as_tensor()).permute(0, 3, 1, 2) for output in outputs)

    def _find_broken(self, plans: Iterable[_Plan]) -> ShardError | None:
        """Find the sample that does not decode; DALI only says that one of a batch did not."""
        for plan in plans:
            for sample, jpeg in zip(plan.samples.tolist(), self._samples.jpegs(plan.samples), strict=True):
                try:
                    simplejpeg.decode_jpeg(jpeg, strict=True)
                except ValueError as error:
                    return ShardError(
                        f"{self._samples.describe(sample)} does not decode: {error}; "
                        "list all such samples with: shard_tool lint --deep"
                    )
        return None


class _Stream:
    """A DALI pipeline, and the plans of the batches that are under way in it."""

    def __init__(self, build: Callable[[Feed], Any], inputs: Callable[[_Plan], list[Any]]) -> None:
        self._inputs = inputs
        self._plans: Iterator[_Plan] = iter(())
        self.under_way: deque[_Plan] = deque()
        self._pipeline = build(self._feed)

    def run(self, plans: Iterator[_Plan]) -> Iterator[tuple[_Plan, Any]]:
        """Each plan with what DALI made of it. To be run to the end, before it is run again."""
        self._plans = plans
        while True:
            try:
                outputs = self._pipeline.run()
            except StopIteration:
                self._pipeline.reset()
                return
            yield self.under_way.popleft(), outputs

    def _feed(self) -> list[Any]:
        """The inputs of the next batch; DALI calls this ahead of time."""
        plan = next(self._plans)
        self.under_way.append(plan)
        return self._inputs(plan)


def _stack_turns(images: tuple[Tensor, ...], num_turns: int) -> tuple[Tensor, ...]:
    """The turns of each view as one tensor of shape (batch, turns, 3, size, size); a single one stays as it is."""
    if num_turns == 1:
        return images
    starts = range(0, len(images), num_turns)
    pixels = [image.permute(0, 2, 3, 1) for image in images]  # as they lie in memory
    return tuple(torch.stack(pixels[at : at + num_turns], dim=1).permute(0, 1, 4, 2, 3) for at in starts)


def _graph_inputs(view: Parameters) -> list[NDArray[np.float32]]:
    """A view's parameters as inputs of `graph.view_graph`."""
    if view.colours is None:
        return [view.warps]
    return [view.warps, np.ascontiguousarray(view.colours[:, :, :3]), 255 * view.colours[:, :, 3]]
