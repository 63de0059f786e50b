"""What the devices of a run send each other in a step, and how long that takes.

Pure functions of explicit arguments. The engine that they describe (``nuat.distributed.world``,
``nuat.training.update``): one process a device, each with its rows of the global batch; the gradients are summed once
per update (a ring: every device sends 2 (N - 1) / N of their bytes); with joint statistics the logits of the global
batch are gathered after every forward pass; a defense may sum numbers of its own (AWP) or follow the first process's
decision (NuAT-H); batch norm takes each device's own statistics, whose running means are averaged after every update,
or, where asked, those of the global batch.
"""

import math
from dataclasses import dataclass
from typing import Literal

Statistics = Literal["global", "device"]
BatchNorm = Literal["device", "sync"]

FLOAT = 4
"""Bytes of a float32, in which gradients, logits and statistics travel."""
BUCKET = 25 * 2**20
"""Bytes of gradients that are averaged in one call (the default of torch's DistributedDataParallel)."""
FIRST_BUCKET = 2**20
"""Those of the first call, which is not to wait for so many (its default, too)."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """How the devices are connected; an assumption, not a measurement."""

    name: str
    """What it is like."""
    bandwidth: float
    """Bytes a second that a device sends and receives."""
    latency: float
    """Seconds of one message."""


LINKS: dict[str, Link] = {
    "nvlink": Link(name="NVLink-class, within a machine", bandwidth=300e9, latency=5e-6),
    "infiniband": Link(name="InfiniBand-class, 400 Gbit/s a device", bandwidth=40e9, latency=10e-6),
    "ethernet-100g": Link(name="Ethernet-class, 100 Gbit/s a device", bandwidth=10e9, latency=30e-6),
    "ethernet-10g": Link(name="Ethernet-class, 10 Gbit/s a device", bandwidth=1e9, latency=50e-6),
}
"""Assumed links by name: about 80 % of the nominal rate, and the latency of a message between two devices."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one device sends in a step, and in how many collective calls."""

    gradients: float
    """Bytes of averaged gradients."""
    logits: float
    """Bytes of gathered logits."""
    batch_norm: float
    """Bytes of batch norm's statistics and their gradients."""
    defense: float
    """Bytes that the defense sums."""
    calls: float
    """Collective calls, each of which costs the latency of ceil(log2 N) messages."""

    @property
    def total(self) -> float:
        """Bytes in all."""
        return self.gradients + self.logits + self.batch_norm + self.defense

    def seconds(self, link: Link, devices: int) -> float:
        """Return the time of a step's communication where nothing of it is hidden behind computation."""
        return self.total / link.bandwidth + self.calls * link.latency * math.ceil(math.log2(max(devices, 1)))


def traffic(
    *,
    devices: int,
    parameters: int,
    batch: int,
    classes: int,
    forwards: float,
    training_forwards: float = 0.0,
    updates: int = 1,
    accumulate: int = 1,
    decisions: float = 0.0,
    sums: float = 0.0,
    summed: float = 0.0,
    statistics: Statistics = "global",
    batch_norm: BatchNorm = "device",
    norm_channels: int = 0,
    norm_layers: int = 0,
) -> Traffic:
    """Return what a device sends in a step, which is a batch.

    Args:
        devices: N, >= 1; with one device nothing is sent.
        parameters: trained numbers, sent as float32.
        batch: M, images of the global batch, of which every device holds at most ceil(M / N).
        classes: C.
        forwards: forward passes of the batch whose logits are gathered, those of the attack included.
        training_forwards: those of them with batch norm in training mode, over which ``sync`` takes statistics.
        updates: updates of the weights in a step (replays of Free-AT).
        accumulate: batches of an update, over which its communication is spread.
        decisions: times in a batch that the defense asks the first process for a word of a few bytes.
        sums: times in a batch that the defense sums numbers of its own.
        summed: bytes of all these numbers.
        statistics: global: logits are gathered; device: they are not.
        batch_norm: device: running statistics are averaged; sync: mean, inverse deviation and count are gathered on
            the way forward, two sums on the way back (torch's SyncBatchNorm).
        norm_channels: channels of all batch-norm layers together.
        norm_layers: number of those layers.
    """
    if devices == 1:
        return Traffic(gradients=0.0, logits=0.0, batch_norm=0.0, defense=0.0, calls=0.0)
    ring = 2.0 * (devices - 1) / devices
    size = FLOAT * parameters
    often = updates / accumulate
    buckets = 1 + math.ceil(max(0, size - FIRST_BUCKET) / BUCKET)
    # gradients in buckets; two numbers by which all learn whether an update was bad, and whether the run is to stop
    calls = often * (buckets + 1) + 1 / accumulate
    calls += 2 * decisions + sums  # of a decision first how long it is, then what it is
    logits = norm = 0.0
    if statistics == "global":
        # rows are padded to the longest share
        logits = (devices - 1) * math.ceil(batch / devices) * forwards * FLOAT * classes
        calls += forwards
    if batch_norm == "device" and norm_layers:
        norm = often * ring * FLOAT * 2 * norm_channels
        calls += often
    elif batch_norm == "sync":
        forward = (devices - 1) * FLOAT * (2 * norm_channels + norm_layers)
        backward = ring * FLOAT * 2 * norm_channels
        norm = training_forwards * (forward + backward)
        calls += 2 * training_forwards * norm_layers
    return Traffic(gradients=often * ring * size, logits=logits, batch_norm=norm, defense=ring * summed, calls=calls)
