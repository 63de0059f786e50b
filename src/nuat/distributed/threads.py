"""The number of threads of a training on a CPU.

Threads that share an operation wait for the slowest. If another process holds a core, each operation waits for it, and
the threads that spin meanwhile use up the share of the processor that the late one needs: the quickstart of two threads
then takes four times as long. So a training begins with as many threads as there are free cores. Threads that sleep
instead of spinning would help as well, but cost a fifth of the time on a quiet machine.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_CHOSEN_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Usage:
    """Seconds of processor time used so far."""

    cores: int
    """Cores that this process may use."""
    clock: float
    """Seconds of all of them that have passed, idle ones included, divided by their number."""
    busy: float
    """Seconds that they were busy."""
    own: float
    """Seconds that this process and its children were."""

    @classmethod
    def now(cls) -> "Usage | None":
        """Return the present usage; None: the system does not tell."""
        try:
            cores = os.sched_getaffinity(0)
            lines = Path("/proc/stat").read_text().splitlines()
            hertz = os.sysconf("SC_CLK_TCK")
        except (OSError, AttributeError, ValueError):
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal
        counts = {line.split()[0]: [int(word) for word in line.split()[1:9]] for line in lines if line[:3] == "cpu"}
        of_ours = [counts[f"cpu{core}"] for core in cores if f"cpu{core}" in counts]
        if not of_ours:
            return None
        total = sum(sum(times) for times in of_ours)
        idle = sum(times[3] + times[4] for times in of_ours)
        used = os.times()
        own = used.user + used.system + used.children_user + used.children_system
        return cls(len(of_ours), total / len(of_ours) / hertz, (total - idle) / hertz, own)


_start = Usage.now()


def watch_load() -> None:
    """Measure from now on how busy other processes keep the cores; a command calls it first."""
    global _start
    _start = Usage.now()


def free_cores(start: Usage | None, now: Usage | None) -> int | None:
    """Return how many cores other processes left free between two moments, at least 1.

    None: the system does not tell, or the moments are too close.
    """
    if start is None or now is None or now.clock - start.clock < 0.5:
        return None
    others = (now.busy - start.busy - (now.own - start.own)) / (now.clock - start.clock)
    return min(now.cores, max(1, round(now.cores - others)))


def threads_for_training(usual: int, recorded: int | None) -> int:
    """Return the threads to train with.

    Args:
        usual: torch's own choice, or the environment's.
        recorded: threads with which a resumed run began, which give the same weights again. None: a new run.
    """
    if any(name in os.environ for name in _CHOSEN_THREADS):
        return usual
    return min(usual, recorded or free_cores(_start, Usage.now()) or usual)
