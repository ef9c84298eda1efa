"""The loader: yield batches of views on the device, from samples in the order of an epoch, decoded by DALI.

    sampling = Sampling(batch_size=256, seed=0)
    loader = Loader(samples, RandomViews(view, seeds=(1, 2)), sampling, Decoding(device="cuda"))
    for batch in loader:
        batch.views[0]                # for the member with seed 1; images are decoded once for all members

DALI always decodes. On a CPU OpenCV makes the views; on a GPU Triton does, except that DALI's graph makes a single view
of a streamed image. `Decoding.backend` overrides the choice. With resident stamps, images are decoded once, and the
views are made from stamps in memory.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.cores import num_cores
from pipeline.augment import Views
from pipeline.engines import Engine, GraphEngine, OpenCvEngine, TritonEngine, Work
from pipeline.framing import make_framing
from pipeline.order import GroupedOrder, Groups, Order, SharedOrder, num_steps
from pipeline.plan import BatchPlan, Stream, ahead
from pipeline.proof import check_headers, find_damaged
from pipeline.shards import Samples
from pipeline.stamps import STREAM, Opener, ResidentStamps, StampPolicy
from pipeline.warp import PendingViews

Backend = Literal["auto", "dali", "opencv", "triton"]

SAMPLES_AT_ONCE = 1024
"""Parameters of views are drawn for about this many samples at once: 64 alone take .12 ms, 1,024 together .30 ms."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Batch:
    """One batch of one rank.

    >>> with Loader(open_shards("shards"), RandomViews(View(crop_px=256, size_px=128))) as loader:
    ...     batch = next(iter(loader))
    >>> len(batch.views), batch.views[0].shape[1:]
    (1, torch.Size([3, 128, 128]))
    >>> len(batch.ids) == len(batch.votes) == len(batch.views[0])
    True

    views: for each view (of a member, or a test-time view) the images, shape (batch, 3, size, size), channels-last,
        normalised, of the loader's dtype. If `View.turns_deg` has several angles, the shape is
        (batch, turns, 3, size, size), channels last in memory. The caller owns the memory.
    votes: float32, shape (batch, answers), on the same device; missing votes are NaN.
    ids: text, shape (batch,), on the host.
    """

    views: tuple[Tensor, ...]
    votes: Tensor
    ids: NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which samples each batch has, and which of them this rank takes.

    >>> Sampling(batch_size=64).order(1_000).most(64)  # samples of a batch, alone and as one of two ranks
    64
    >>> Sampling(batch_size=64, rank=1, world_size=2).order(1_000).most(64)
    32

    batch_size: samples of a batch over all ranks, at least one for each rank. Ranks share a batch evenly (to within
        one sample) or, with `groups`, by the groups its samples are in.
    shuffle: draw another order from `seed` in each epoch; otherwise keep the order of the samples.
    shares: mean number of times each sample comes in an epoch, to balance classes (`order.class_shares`); the length
        of an epoch stays the same. Only with `shuffle`. Default: each exactly once.
    groups: groups of all samples, for ranks that have only the samples of their own groups, in the order of these.
        Not with `shares`.
    """

    batch_size: int = 128
    shuffle: bool = True
    seed: int = 0
    shares: NDArray[np.float64] | None = None
    groups: Groups | None = None
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError if a rank would never get a sample."""
        if self.batch_size < self.world_size:
            raise ValueError(f"a batch of {self.batch_size} samples is too small for {self.world_size} ranks")

    def order(self, num_samples: int) -> Order:
        """Return the order of `num_samples` samples, as this rank takes them."""
        seed = self.seed if self.shuffle else None
        if self.groups is not None:
            return GroupedOrder(self.groups, seed=seed)
        return SharedOrder(
            num_samples=num_samples, seed=seed, shares=self.shares, rank=self.rank, world_size=self.world_size
        )


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Where and how images become views. Devices and backends make the same views to within a grey level on average.

    >>> import torch
    >>> views = RandomViews(View(crop_px=256, size_px=128))
    >>> loader = Loader(open_shards("shards"), views, decoding=Decoding(dtype=torch.bfloat16))
    >>> next(iter(loader)).views[0].dtype
    torch.bfloat16
    >>> loader.close()

    num_threads: threads for decoding and warping; default: the number of cores this process may use.
    backend: "dali" for DALI's graph, "opencv" and "triton" for DALI's decoder and a warp kernel (on the CPU and the
        GPU), "auto" for the fastest one on `device`. Resident stamps need a warp kernel.
    dtype: dtype of the views, float32, float16 or bfloat16; default: float16 on a GPU, float32 on a CPU.
    stamps: whether to keep decoded stamps, so that only the first epoch decodes.
    """

    device: torch.device | str = "cpu"
    num_threads: int | None = None
    backend: Backend = "auto"
    dtype: torch.dtype | None = None
    stamps: StampPolicy = STREAM

    def work(self, views: Views, image_px: tuple[int, int], batch_size: int) -> Work:
        """Return the work of an engine.

        Args:
            image_px: (height, width) of every image.
            batch_size: largest number of samples in a batch of this rank.

        Raises:
            ValueError: the options exclude each other.
        """
        device = torch.device(self.device)
        on_gpu = device.type == "cuda"
        dtype = self.dtype or (torch.float16 if on_gpu else torch.float32)
        if dtype not in DTYPES:
            raise ValueError(f"views cannot be {dtype}; choose one of {', '.join(map(str, DTYPES))}")
        if self.backend == "opencv" and on_gpu:
            raise ValueError("the opencv backend works on the CPU only; use backend='dali' or 'triton' on a GPU")
        if self.backend == "dali" and self.stamps.mode != "stream":
            raise ValueError("DALI's graph takes no resident stamps; use backend='auto' with them")
        return Work(
            views=views,
            stamp=views.stamp(image_px),
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            num_threads=self.num_threads or num_cores(),
        )


BY_DEFAULT, ON_CPU = Sampling(), Decoding()


class Loader:
    """Yields batches of views of `samples`, each sample once an epoch over all ranks (or as often as `shares` says).

    Every rank has all samples or, with `groups`, only those of its own groups. Iterating over the loader yields the
    batches of an epoch, and the next time those of the next epoch, even if the last one was left half-way.

    >>> samples = open_shards("shards")
    >>> with Loader(samples, RandomViews(View(crop_px=256, size_px=128)), Sampling(batch_size=64)) as loader:
    ...     first, second = ([key for batch in loader for key in batch.ids] for epoch in range(2))
    ...     loader.set_epoch(0)
    ...     again = [key for batch in loader for key in batch.ids]
    >>> sorted(first) == sorted(second) == sorted(samples.keys)
    True
    >>> first == second, first == again
    (False, True)
    """

    def __init__(
        self, samples: Samples, views: Views, sampling: Sampling = BY_DEFAULT, decoding: Decoding = ON_CPU
    ) -> None:
        self._samples, self._views = samples, views
        self._batch_size, self._order = sampling.batch_size, sampling.order(len(samples))
        self._work = decoding.work(views, samples.image_px, self._order.most(sampling.batch_size))
        self._frame = make_framing(views.view, self._work.stamp, samples)
        self._num_turns = len(views.view.turns_deg)
        self._opener = Opener(
            decoding.stamps,
            samples,
            self._work.stamp,
            device=self._work.device,
            rank=sampling.rank,
            world_size=sampling.world_size,
            has_own=sampling.groups is not None,
        )
        self._resident = self._opener.open()
        self._is_saved = self._resident is not None and self._resident.is_full
        self._engine = _make_engine(decoding.backend, self._work, self._resident)
        self._idle: Stream | None = None
        self._next_epoch = 0

    def __len__(self) -> int:
        """Return the number of steps of an epoch, which is the same on every rank."""
        return num_steps(len(self._order), self._batch_size)

    @property
    def num_samples(self) -> int:
        """Number of samples of an epoch over all ranks."""
        return len(self._order)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration over the loader yields, as in a training that is resumed."""
        self._next_epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        epoch, self._next_epoch = self._next_epoch, self._next_epoch + 1
        return self.epoch(epoch)

    def epoch(self, epoch: int, *, start: int = 0, seen: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on; the last may be short, and empty on some ranks.

        The caller may stop at any batch.

        Args:
            seen: number of samples of the epoch that all ranks together have used before, with any number of ranks and
                any batch size. Batches are made of the remaining samples; step 0 is the first of these batches.

        Raises:
            ShardError: an image does not decode or is not what the manifest says; the message names shard, sample,
                offset.
        """
        with closing(ahead(self._plans(epoch, seen + start * self._batch_size))) as plans:
            yield from self._one_ahead(plans)
        if self._resident is not None:
            self._after_filling(self._resident)

    def close(self) -> None:
        """End the threads and free the buffers; the loader cannot be used afterwards."""
        self._end_idle()
        self._engine.close()
        if self._resident is not None:
            self._resident.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _plans(self, epoch: int, start: int) -> Iterator[BatchPlan]:
        """Yield the plans of the batches from position `start` of an epoch on."""
        take, count, size = self._order.epoch(epoch), len(self._order), self._batch_size
        batches = (take(range(first, min(first + size, count))) for first in range(start, count, size))
        while some := list(islice(batches, max(1, SAMPLES_AT_ONCE // size))):
            positions, samples = (np.concatenate(each) for each in zip(*some, strict=True))
            views = self._frame(self._views.parameters(self._work.stamp, epoch, positions), samples)
            end = 0
            for _, mine in some:
                begin, end = end, end + len(mine)
                decode = np.arange(len(mine)) if self._resident is None else self._resident.missing(mine)
                yield BatchPlan(mine, [view[begin:end] for view in views], decode)

    def _one_ahead(self, plans: Iterator[BatchPlan]) -> Iterator[Batch]:
        """Yield the batches of plans; make the views of the next batch while one is in use."""
        earlier: tuple[BatchPlan, PendingViews | None] | None = None
        for plan, outputs in self._decoded(plans):
            pending = self._engine.start(plan, outputs) if len(plan.samples) else None
            if earlier is not None:
                yield self._batch(*earlier)
            earlier = plan, pending
        if earlier is not None:
            yield self._batch(*earlier)

    def _decoded(self, plans: Iterator[BatchPlan]) -> Iterator[tuple[BatchPlan, Any]]:
        """Yield each plan with what DALI decoded for it, None if it had nothing to decode."""
        if self._resident is not None and self._resident.is_full:
            yield from ((plan, None) for plan in plans)
            return
        stream, self._idle = self._idle or Stream(self._engine.build, self._inputs), None
        try:
            yield from stream.run(plans)
            if self._idle is None:  # an epoch that ran at the same time may have ended first
                self._idle = stream
        except RuntimeError as error:
            decoded = (number for plan in stream.under_way for number in plan.samples[plan.decode].tolist())
            if (damaged := find_damaged(self._samples, decoded)) is None:
                raise
            raise damaged from error
        finally:
            if self._idle is not stream:  # stopped early: the stream still holds batches
                stream.close()

    def _inputs(self, plan: BatchPlan) -> list[Any]:
        numbers = plan.samples[plan.decode]
        jpegs = self._samples.jpegs(numbers)
        check_headers(self._samples, numbers, jpegs)
        return self._engine.inputs(plan, jpegs)

    def _batch(self, plan: BatchPlan, pending: PendingViews | None) -> Batch:
        if pending is None:
            return self._empty_batch()
        views = _stack_turns(pending.result(), self._num_turns)
        if self._resident is not None:
            self._resident.check_memory()
        votes = torch.from_numpy(self._samples.votes[plan.samples])
        if self._work.device.type == "cuda":
            votes = votes.pin_memory().to(self._work.device, non_blocking=True)
        return Batch(views, votes, self._samples.keys[plan.samples])

    def _after_filling(self, resident: ResidentStamps) -> None:
        """Save the stamps and end DALI's threads, if an epoch has filled all stamps."""
        if resident.is_full and not self._is_saved:
            self._is_saved = True
            self._end_idle()
            self._opener.save(resident)

    def _end_idle(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _empty_batch(self) -> Batch:
        """Return the batch of a rank that has no samples in it."""
        size = self._views.view.size_px
        images = (torch.empty(0, 3, size, size, dtype=self._work.dtype, device=self._work.device),)
        votes = torch.from_numpy(self._samples.votes[:0]).to(self._work.device)
        views = _stack_turns(images * self._work.num_views, self._num_turns)
        return Batch(views, votes, self._samples.keys[:0])


def choose_backend(work: Work, *, has_resident: bool) -> Backend:
    """Return the fastest backend.

    On an H200 the Triton kernel makes 3 million views a second, DALI's graph of 16 views 18 thousand. Making a single
    view takes no time compared with decoding its image. DALI cannot normalise to bfloat16.
    """
    if not work.on_gpu:
        return "opencv"
    needs_kernel = has_resident or work.num_views > 1 or work.dtype == torch.bfloat16
    return "triton" if needs_kernel else "dali"


def _make_engine(backend: Backend, work: Work, resident: ResidentStamps | None) -> Engine:
    if backend == "auto":
        backend = choose_backend(work, has_resident=resident is not None)
    if backend == "dali":
        return GraphEngine(work)
    return TritonEngine(work, resident) if backend == "triton" else OpenCvEngine(work, resident)


def _stack_turns(images: tuple[Tensor, ...], num_turns: int) -> tuple[Tensor, ...]:
    """Stack the turns of each view, shape (batch, turns, 3, size, size); a view without turns stays as it is."""
    if num_turns == 1:
        return images
    starts = range(0, len(images), num_turns)
    pixels = [image.permute(0, 2, 3, 1) for image in images]  # in the order of memory
    return tuple(torch.stack(pixels[at : at + num_turns], dim=1).permute(0, 1, 4, 2, 3) for at in starts)
