"""Engines, which make the views of a batch: DALI's whole graph, or DALI's decoder, stamps and a warp kernel."""

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galaxy_zoo.view import Stamp
from pipeline.augment import Parameters, Views
from pipeline.graph import PREFETCHED_BATCHES, Feed, decode_graph, stamp_graph, view_graph
from pipeline.plan import BatchPlan
from pipeline.shards import Bytes
from pipeline.stamps import ResidentStamps
from pipeline.warp import PendingViews, Pixels, WarpKernel, reduce_window


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an engine is to make.

    batch_size: largest number of samples in a batch of this rank.
    dtype: dtype of the views.
    """

    views: Views
    stamp: Stamp
    batch_size: int
    device: torch.device
    dtype: torch.dtype
    num_threads: int

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def num_views(self) -> int:
        """Number of views made of an image, counting turns."""
        return len(self.views) * len(self.views.view.turns_deg)

    @property
    def pipeline_options(self) -> dict[str, Any]:
        """Arguments that every DALI pipeline takes."""
        return {
            "batch_size": self.batch_size,
            "num_threads": self.num_threads,
            "device_id": (self.device.index or 0) if self.on_gpu else None,
            "prefetch_queue_depth": PREFETCHED_BATCHES,
        }


class Engine(Protocol):
    """Makes views from what DALI decodes."""

    def build(self, feed: Feed) -> Any:
        """Build the DALI pipeline; `feed` returns the `inputs` of one batch after the other."""

    def inputs(self, plan: BatchPlan, jpegs: list[Bytes]) -> list[Any]:
        """Return the inputs of the pipeline for a batch; `jpegs` are the images that the plan has to decode."""

    def start(self, plan: BatchPlan, outputs: Any) -> PendingViews:
        """Begin to make the views of a batch. outputs: what the pipeline returned, None if nothing was decoded."""

    def close(self) -> None:
        """End the threads of the engine, and release DALI's memory."""


class Held:
    """Outputs of DALI that a GPU is still reading; once they are released, DALI may overwrite them."""

    def __init__(self) -> None:
        self._held: deque[tuple[torch.cuda.Event, list[Tensor]]] = deque()

    def until_read(self, outputs: list[Tensor]) -> None:
        """Hold outputs until the work queued so far is done: a few batches of them, then wait for the oldest.

        Outputs in host memory need no holding: the tensors own them.
        """
        if not outputs[0].is_cuda:
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._held.append((event, outputs))
        if len(self._held) > PREFETCHED_BATCHES:
            self._release()

    def close(self) -> None:
        """Wait until the GPU has read everything, and release it."""
        while self._held:
            self._release()

    def _release(self) -> None:
        event, _ = self._held[0]
        event.synchronize()
        self._held.popleft()


class GraphEngine:
    """Engine in which DALI does everything in one graph."""

    def __init__(self, work: Work) -> None:
        self._work, self._held = work, Held()

    def build(self, feed: Feed) -> Any:
        """Build the DALI pipeline."""
        work = self._work
        # DALI cannot normalise to bfloat16, so it returns float32, which is converted later.
        dtype = torch.float32 if work.dtype == torch.bfloat16 else work.dtype
        return view_graph(
            feed,
            view=work.views.view,
            stamp=work.stamp,
            num_views=work.num_views,
            dtype=dtype,
            on_gpu=work.on_gpu,
            **work.pipeline_options,
        )

    def inputs(self, plan: BatchPlan, jpegs: list[Bytes]) -> list[Any]:
        """Return the inputs of the pipeline for a batch."""
        return [jpegs, *(each for view in plan.views for each in _graph_inputs(view))]

    def start(self, plan: BatchPlan, outputs: Any) -> PendingViews:  # noqa: ARG002
        """Begin to make the views of a batch."""
        images = [_tensor(output).permute(0, 3, 1, 2) for output in outputs]
        views = tuple(image.to(self._work.dtype, copy=image.is_cuda) for image in images)
        self._held.until_read(images)
        return PendingViews([], views)

    def close(self) -> None:
        """Release DALI's memory."""
        self._held.close()


class OpenCvEngine:
    """Engine for the CPU: DALI decodes windows, OpenCV reduces them to stamps and warps these or resident ones."""

    def __init__(self, work: Work, resident: ResidentStamps | None) -> None:
        self._work, self._resident = work, resident
        self._kernel = WarpKernel(work.views.view, num_threads=work.num_threads, dtype=work.dtype)

    def build(self, feed: Feed) -> Any:
        """Build the DALI pipeline."""
        return decode_graph(feed, self._work.stamp, **self._work.pipeline_options)

    def inputs(self, plan: BatchPlan, jpegs: list[Bytes]) -> list[Any]:  # noqa: ARG002
        """Return the inputs of the pipeline for a batch."""
        return [jpegs]

    def start(self, plan: BatchPlan, outputs: Any) -> PendingViews:
        """Begin to make the views of a batch."""
        decoded = [] if outputs is None else list(np.from_dlpack(outputs[0].as_tensor()))
        windows = dict(zip(plan.decode.tolist(), decoded, strict=True))
        samples, resident = plan.samples.tolist(), self._resident

        def stamp_of(place: int) -> Pixels:
            if (window := windows.get(place)) is None:
                assert resident is not None, "without resident stamps every sample is decoded"
                return resident.stamp(samples[place])
            stamp = reduce_window(window, self._work.stamp)
            if resident is not None:
                resident.put(samples[place], stamp)
            return stamp

        return self._kernel.start(len(samples), stamp_of, plan.views)

    def close(self) -> None:
        """End the threads of the warp kernel."""
        self._kernel.close()


class TritonEngine:
    """Engine for a GPU: DALI decodes and makes stamps, a Triton kernel warps these or resident ones."""

    def __init__(self, work: Work, resident: ResidentStamps | None) -> None:
        from pipeline.warp_triton import TritonKernel  # noqa: PLC0415 - not every torch comes with Triton

        self._work, self._resident = work, resident
        self._kernel = TritonKernel(work.views.view, device=work.device, dtype=work.dtype)
        self._held = Held()

    def build(self, feed: Feed) -> Any:
        """Build the DALI pipeline."""
        work = self._work
        return stamp_graph(feed, work.stamp, on_gpu=work.on_gpu, **work.pipeline_options)

    def inputs(self, plan: BatchPlan, jpegs: list[Bytes]) -> list[Any]:  # noqa: ARG002
        """Return the inputs of the pipeline for a batch."""
        return [jpegs]

    def start(self, plan: BatchPlan, outputs: Any) -> PendingViews:
        """Begin to make the views of a batch."""
        resident = self._resident
        numbers = plan.samples if resident is not None else np.arange(len(plan.samples))
        rows, parameters = self._kernel.upload(numbers, plan.views)
        decoded = None if outputs is None else _tensor(outputs[0])
        if resident is None:
            stamps = decoded
        else:
            stamps = resident.pixels
            if decoded is not None:
                new = plan.samples[plan.decode]
                new_rows, _ = self._kernel.upload(new, [])
                resident.put_all(new, new_rows.long(), decoded)
        assert stamps is not None, "without resident stamps every sample is decoded"
        views = tuple(
            self._kernel(stamps, rows, packed, has_colours=view.colours is not None)
            for packed, view in zip(parameters, plan.views, strict=True)
        )
        if decoded is not None:
            self._held.until_read([decoded])
        return PendingViews([], views)

    def close(self) -> None:
        """Release DALI's memory."""
        self._held.close()


def _tensor(output: Any) -> Tensor:
    """Return an output of DALI, whose images have one shape, as a tensor in the same memory."""
    return torch.utils.dlpack.from_dlpack(output.as_tensor())


def _graph_inputs(view: Parameters) -> list[NDArray[np.float32]]:
    """Return the parameters of a view as inputs of `graph.view_graph`."""
    if view.colours is None:
        return [view.warps]
    return [view.warps, np.ascontiguousarray(view.colours[:, :, :3]), 255 * view.colours[:, :, 3]]
