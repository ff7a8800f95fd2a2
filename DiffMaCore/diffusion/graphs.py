"""A denoiser's evaluation in, the same as a CUDA graph out: one launch in place of many hundreds.

torch.compile would fuse kernels as well, but it needs a C compiler, which Windows machines and hospitals rarely have.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from DiffMaCore.diffusion.streams import side_stream
from DiffMaCore.errors import is_out_of_memory

logger = logging.getLogger("DiffMaCore")

MOST = 2  # of a volume's batches all have one size, but the last
WARM_UP = 3  # kernels are compiled, probed and tuned before anything is captured

Evaluation = Callable[[Tensor, Tensor], Tensor]
Warn = Callable[[str], None]


class DenoiserGraphs:
    """Graphs of one network on a CUDA device, each captured when its shapes are first met.

    Args:
        network: takes latents, timesteps and conditions, and gives an object with ``sample``.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._graphs: OrderedDict[Any, _Graph] = OrderedDict()
        self._failed = False

    def will_capture(self, batch: int) -> bool:
        """Whether a batch of this size is still to be captured, during which the device should do nothing else."""
        return not self._failed and all(graph.batch != batch for graph in self._graphs.values())

    def clear(self) -> None:
        """Give up all graphs, and with them their memory."""
        self._graphs.clear()

    def evaluation(self, latents: Tensor, t: Tensor, conditions: tuple[Tensor, ...], warn: Warn) -> Evaluation | None:
        """(latents, t) to a prediction of its own in the latents' type, by a graph for these conditions.

        None where capturing fails; ``warn`` then gets the reason, once.
        """
        if self._failed:
            return None
        given = (latents, t, *conditions)
        key = tuple((tensor.shape, tensor.dtype) for tensor in given)
        if key not in self._graphs:
            while len(self._graphs) >= MOST:
                self._graphs.popitem(last=False)
            try:
                graph = _Graph(self._network, given)
            except Exception as error:  # whatever a kernel's library throws, the steps can be done without a graph
                cause = error.__context__ or error  # ending a spoilt capture is an error too
                if is_out_of_memory(cause):
                    raise cause from None
                self._failed = True
                self.clear()
                words = f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), 'no message')}"
                warn(f"the denoiser's steps could not be captured as a CUDA graph, so each is slower ({words})")
                return None
            self._graphs[key] = graph
            logger.info("captured a CUDA graph of the denoiser for %d slices", graph.batch)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        graph.load(conditions)
        return graph


class _Graph:
    """One evaluation at fixed addresses."""

    def __init__(self, network: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.batch = len(given[0])
        self._given = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in given)
        with torch.cuda.device(given[0].device):
            self._graph = torch.cuda.CUDAGraph()
            main, side = torch.cuda.current_stream(), side_stream(given[0].device, "capture")
            side.wait_stream(main)
            with torch.cuda.stream(side):  # and back to the other stream, which a spoilt capture would forget
                for _ in range(WARM_UP):
                    network(*self._given)
                main.wait_stream(side)
                # another thread may allocate meanwhile, which only this mode allows
                with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
                    self._out: Tensor = network(*self._given).sample

    def load(self, conditions: tuple[Tensor, ...]) -> None:
        for mine, theirs in zip(self._given[2:], conditions, strict=True):
            mine.copy_(theirs)

    def __call__(self, latents: Tensor, t: Tensor) -> Tensor:
        self._given[0].copy_(latents)
        self._given[1].copy_(t)
        self._graph.replay()
        return self._out.to(latents.dtype, copy=True)  # the next replay overwrites it
