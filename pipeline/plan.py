"""Plans of batches, and the stream of images that DALI decodes for them."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.augment import Parameters
from pipeline.graph import Feed

PLANS_AHEAD = 2


@dataclass(frozen=True)
class BatchPlan:
    """The plan of one batch of one rank.

    decode: places in the batch whose samples have to be decoded, ascending; the others have resident stamps.
    """

    samples: NDArray[np.int64]
    views: list[Parameters]
    decode: NDArray[np.int64]


def ahead(plans: Iterator[BatchPlan]) -> Generator[BatchPlan, None, None]:
    """Yield plans in their order, made ahead of time by a thread. Closing the generator ends the thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="plans") as thread:
        waiting = deque(thread.submit(next, plans, None) for _ in range(PLANS_AHEAD))
        while (plan := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, plans, None))
            yield plan


class Stream:
    """A DALI pipeline, and the plans of the batches in it."""

    def __init__(self, build: Callable[[Feed], Any], inputs: Callable[[BatchPlan], list[Any]]) -> None:
        self._inputs = inputs
        self._plans: Iterator[BatchPlan] = iter(())
        self.under_way: deque[BatchPlan] = deque()
        self._pipeline: Any = build(self._feed)

    def run(self, plans: Iterator[BatchPlan]) -> Iterator[tuple[BatchPlan, Any]]:
        """Yield each plan with the outputs of DALI, None if there was nothing to decode.

        The caller has to reach the end before running the stream again.
        """
        self._plans = plans
        while True:
            try:
                outputs = self._pipeline.run()
            except StopIteration:
                self._pipeline.reset()
                yield from ((self.under_way.popleft(), None) for _ in range(len(self.under_way)))
                return
            while not len(self.under_way[0].decode):
                yield self.under_way.popleft(), None
            yield self.under_way.popleft(), outputs

    def close(self) -> None:
        """End the pipeline's threads and free its buffers now, not when Python breaks the cycle of references."""
        self._pipeline = None

    def _feed(self) -> list[Any]:
        """Return the inputs of the next batch that has anything to decode; DALI calls this ahead of time."""
        while True:
            plan = next(self._plans)
            self.under_way.append(plan)
            if len(plan.decode):
                return self._inputs(plan)
