"""CUDA graphs: work that is the same at every step, recorded once and started as one."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_WARM_UPS = 3
"""Passes before a recording: libraries choose their kernels and take their memory in the first ones."""

_TIMED = 5


class Recording:
    """All kernels that `work` starts, with the memory that they read and write.

    A pass of a small network is some hundred kernels of a few microseconds each: Python takes longer to start them than
    a GPU to run them. `work` is called four times here. It must read its inputs from the same memory every time, wait
    for nothing, and copy nothing from ordinary memory.

    Raises:
        RuntimeError: `work` did what cannot be recorded, or what it always raises.
    """

    def __init__(self, work: Callable[[], Tensor]) -> None:
        self._work = work  # what it reads must not be freed
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own gap
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
            with _no_waiting():
                for _ in range(_WARM_UPS - 1):
                    work()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        try:
            # Other threads of the process may allocate meanwhile: only what this one does is recorded.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._result = work()
        except RuntimeError:
            # The generator believes that the recording goes on, and would draw no more: its copy does not.
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
            generator.graphsafe_set_state(generator.clone_state())
            raise

    def replay(self) -> Tensor:
        """Do the work again; return what it returned when it was recorded, in the same memory."""
        self._graph.replay()
        return self._result


def side_by_side(parts: Sequence[Callable[[], Tensor]], reads: Sequence[Tensor]) -> list[Tensor]:
    """Do `parts`, none of which needs another; in a recording, let the device do them at the same time.

    Their backward passes, too, then run beside each other and beside what comes before them. `reads` are the tensors
    that the parts share with the rest: what they lie in must not be used for others while a part may still read it.
    """
    if torch.compiler.is_compiling() or not reads[0].is_cuda or not torch.cuda.is_current_stream_capturing():
        return [part() for part in parts]
    here = torch.cuda.current_stream()
    results, streams = [], []
    for part in parts:
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own gap
        beside.wait_stream(here)
        for tensor in reads:
            tensor.record_stream(beside)
        with torch.cuda.stream(beside):
            results.append(part())
        results[-1].record_stream(here)
        streams.append(beside)
    for beside in streams:
        here.wait_stream(beside)
    return results


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Have torch raise a RuntimeError where Python would wait for the device: in a recording it could not."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that it does not see all waits yet; a recording sees the rest
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def fastest_seconds(work: Callable[[], object]) -> float:
    """Return how long the fastest of a few calls takes, the device's part included."""
    seconds = []
    for _ in range(_TIMED):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
