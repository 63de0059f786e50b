"""Communication of the devices in a step: bytes, calls and seconds, as pure functions of explicit arguments.

One process a device holds its rows of the global batch (``nuat.distributed.world``). Gradients are summed once an
update, in a ring; joint statistics gather the logits of the global batch after every forward pass; CutMix gathers its
images.
"""

import math
from dataclasses import dataclass
from typing import Literal

_FLOAT = 4
"""Bytes of a number: gradients, logits and statistics travel as float32."""
BUCKET = 25 * 2**20
"""Bytes of gradients that are averaged in one call (the default of torch's DistributedDataParallel)."""
FIRST_BUCKET = 2**20
"""Bytes of the first call, smaller so that it starts earlier (also the default)."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """Connection of the devices: an assumption, not a measurement."""

    name: str
    """Kind of the connection, for people."""
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
    """Bytes that one device sends in a step, and its collective calls."""

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
    images: float = 0.0
    """Bytes of gathered images."""

    @property
    def total(self) -> float:
        """Return the sum of all bytes."""
        return self.gradients + self.logits + self.batch_norm + self.defense + self.images

    def seconds(self, link: Link, devices: int) -> float:
        """Return the time of a step's communication, none of it hidden behind computation."""
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
    defense_calls: float = 0.0,
    defense_bytes: float = 0.0,
    statistics: Literal["global", "device"] = "global",
    batch_norm: Literal["device", "sync"] = "device",
    norm_channels: int = 0,
    norm_layers: int = 0,
    mixed_pixels: int = 0,
) -> Traffic:
    """Return the traffic of a device in a step, which is a batch.

    Args:
        devices: N, >= 1; a single device sends nothing.
        parameters: trained numbers, sent as float32.
        batch: M, images of the global batch, of which every device holds at most ceil(M / N).
        classes: C.
        forwards: forward passes of the batch, those of the attack included.
        training_forwards: forward passes with batch norm in training mode, over which ``sync`` takes statistics.
        updates: updates of the weights in a step (replays of Free-AT).
        accumulate: batches of an update, over which its communication is spread.
        defense_calls: collective calls of the defense's own; to follow the first process's decision takes two.
        defense_bytes: bytes that the defense sums.
        statistics: global: logits are gathered; device: they are not.
        batch_norm: device: running statistics are averaged; sync: mean, inverse deviation and count are gathered
            forward, two sums backward (torch's SyncBatchNorm).
        norm_channels: channels of all batch-norm layers together.
        norm_layers: number of those layers.
        mixed_pixels: numbers of an image, if CutMix gathers the images of the batch. 0: it does not.
    """
    if devices == 1:
        return Traffic(gradients=0.0, logits=0.0, batch_norm=0.0, defense=0.0, calls=0.0)
    ring = 2.0 * (devices - 1) / devices
    size = _FLOAT * parameters
    often = updates / accumulate
    buckets = 1 + math.ceil(max(0, size - FIRST_BUCKET) / BUCKET)
    # gradients in buckets; two numbers that tell all whether an update was bad and whether the run is to stop
    calls = often * (buckets + 1) + 1 / accumulate + defense_calls
    logits = norm = 0.0
    others = (devices - 1) * math.ceil(batch / devices)  # rows are padded to the longest share
    if statistics == "global":
        logits = others * forwards * _FLOAT * classes
        calls += forwards
    calls += mixed_pixels > 0
    if batch_norm == "device" and norm_layers:
        norm = often * ring * _FLOAT * 2 * norm_channels
        calls += often
    elif batch_norm == "sync":
        forward = (devices - 1) * _FLOAT * (2 * norm_channels + norm_layers)
        backward = ring * _FLOAT * 2 * norm_channels
        norm = training_forwards * (forward + backward)
        calls += 2 * training_forwards * norm_layers
    return Traffic(
        gradients=often * ring * size,
        logits=logits,
        batch_norm=norm,
        defense=ring * defense_bytes,
        calls=calls,
        images=others * _FLOAT * mixed_pixels,
    )
