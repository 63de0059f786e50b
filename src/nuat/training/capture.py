"""Record what a function does on a GPU as a CUDA graph."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")


class Capture(Protocol):
    """Records a function, which draws from generators, and returns what repeats it."""

    def __call__(self, body: Callable[[], T], generators: Sequence[torch.Generator]) -> Callable[[], T]:
        """Record ``body``. Its tensors stay where they are, and each repetition gives them new values."""
        ...


def cuda_capture() -> Capture:
    """Return a function that records CUDA graphs, all with memory of one pool."""
    pool = torch.cuda.graph_pool_handle()

    def capture(body: Callable[[], T], generators: Sequence[torch.Generator]) -> Callable[[], T]:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # torch registers its default generators itself; after a failure all would still wait for the graph
        drawn_from = [*generators, *torch.cuda.default_generators]
        kept = [generator.clone_state() for generator in drawn_from]
        try:
            # of this thread alone: another one may be writing a checkpoint
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                made = body()
        except BaseException:
            for generator, state in zip(drawn_from, kept, strict=True):
                generator.graphsafe_set_state(state)
            raise

        def repeat() -> T:
            graph.replay()
            return made

        return repeat

    return capture
