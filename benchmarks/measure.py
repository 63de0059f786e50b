"""Share among the benchmarks: interleaved timing, medians and ratios, counts of work, memory, and the machine's limits.

seconds = interleaved({"plain": plain, "ours": ours}, device=device, rounds=5)
print(header(device))
print(markdown(["", "s"], [[name, f"{median(values):.3f}"] for name, values in seconds.items()]))
print(ratio(seconds["plain"], seconds["ours"]))                         # 3.10 (3.02 to 3.21)
limits, spent = Limits.measure(device, torch.float32), work(ours)
print(median(seconds["ours"]) / limits.floor(spent))                    # how far above the floor it runs
"""

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from nuat import hardware
from nuat.core.pass_counter import PassCounter

Call = Callable[[], object]


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; on the CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Call, device: torch.device, calls: int = 1) -> float:
    """Return the seconds of one call, from ``calls`` of them in a row; the device is idle before and after."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    synchronise(device)
    return (time.perf_counter() - began) / calls


def interleaved(
    contenders: Mapping[str, Call],
    *,
    device: torch.device,
    rounds: int = 5,
    warmups: int = 1,
    least_seconds: float = 0.0,
) -> dict[str, list[float]]:
    """Return the seconds of one call of each contender, one value a round.

    Every round runs all contenders, in turn forwards and backwards (a b c, c b a, ...), so that what slows the machine
    for a while slows them alike. Compare round by round (``ratio``).

    Args:
        contenders: name to what is timed.
        device: waited for before and after each timing, not between the calls of one.
        rounds: timings of each, >= 1.
        warmups: calls of each that go before and are not counted, >= 1.
        least_seconds: a short call is repeated within a round until about this much time has gone.
    """
    calls = {}
    for name, call in contenders.items():
        for _ in range(warmups - 1):
            call()
        timed(call, device)  # the first pays for caches and the choice of kernels
        calls[name] = max(1, round(least_seconds / timed(call, device))) if least_seconds else 1
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            seconds[name].append(timed(contenders[name], device, calls[name]))
        order.reverse()
    return seconds


median = statistics.median


@dataclass(frozen=True)
class Ratio:
    """Median and range of the ratios of two contenders, taken round by round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Return how many times as long as ``ours`` ``theirs`` took, for the seconds that ``interleaved`` returns."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Work:
    """Least cost of a call's matrix products and convolutions, forward and backward."""

    operations: int
    """Multiplications and additions, counted apart."""
    bytes: int
    """Read and written by them, every operand and result once. Elementwise work is left out: it could be fused."""


def work(call: Call) -> Work:
    """Run ``call`` once and return its work."""
    with _Counter() as counter:
        call()
    return Work(counter.operations, counter.bytes)


class _Counter(TorchDispatchMode):
    # torch's own FlopCounterMode hooks modules, and its hooks refuse the gradient of the input alone
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if (operations := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += operations(*args, **kwargs, out_val=found)
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def passes(model: nn.Module, call: Call) -> tuple[int, int]:
    """Run ``call`` once and return how many images went forward through ``model``, and backward from its logits."""
    with PassCounter(model) as counter:
        call()
    return counter.forwards, counter.backwards


@dataclass(frozen=True)
class Limits:
    """Highest measured rates of a device."""

    matrix_rate: float
    """Operations a second of a large matrix product."""
    bandwidth: float
    """Bytes a second read and written by a large copy."""

    @classmethod
    def measure(cls, device: torch.device, dtype: torch.dtype = torch.float32, *, size: int | None = None) -> Self:
        """Measure with square matrices of ``size`` rows (None: 2048 on the CPU, 8192 on a GPU) in ``dtype``.

        Both are the best of ten tries: limits, not typical values.
        """
        n = size or (8192 if device.type == "cuda" else 2048)
        a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
        product = _best(lambda: torch.mm(a, b, out=out), device)
        source = torch.zeros(16 * n * n, device=device)  # far larger than the caches
        target = torch.empty_like(source)
        copy = _best(lambda: target.copy_(source), device)
        return cls(2 * n**3 / product, 2 * source.numel() * source.element_size() / copy)

    def floor(self, spent: Work) -> float:
        """Return the seconds that ``spent`` takes at the least here: its operations or its bytes, whichever is more."""
        return max(spent.operations / self.matrix_rate, spent.bytes / self.bandwidth)

    def __str__(self) -> str:
        return f"matrix products {self.matrix_rate / 1e9:,.0f} GFLOP/s, copies {self.bandwidth / 1e9:.1f} GB/s"


def _best(call: Call, device: torch.device) -> float:
    call()
    return min(timed(call, device) for _ in range(10))


def peak_memory(call: Call, device: torch.device) -> int | None:
    """Run ``call`` once and return how far memory rose above what was held before, at its peak [bytes].

    On a GPU what torch's allocator handed out; on the CPU the resident memory of the process, by Linux' own mark, none
    where the system keeps no such mark. The CPU's counts pages, and what the C library's allocator keeps for later:
    take it for large calls only.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    with suppress(OSError, AttributeError):  # what was freed before must not count as held, nor be taken again unseen
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the mark goes back to what is resident now
        before = _resident("VmRSS")
        call()
        return _resident("VmHWM") - before
    except OSError:
        return None


def _resident(field: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def header(device: torch.device, packages: Iterable[Any] = ()) -> str:
    """Return the line that goes over a table: date, what computes, versions of Python, torch and other ``packages``."""
    versions = [f"{package.__name__} {package.__version__}" for package in (torch, *packages)]
    return ", ".join(
        [f"{datetime.now(UTC):%Y-%m-%d}", hardware.describe(device), f"Python {platform.python_version()}", *versions]
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, its first column aligned to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
