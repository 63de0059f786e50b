"""Updates as CUDA graphs: the host starts one recording where it would launch a thousand kernels.

The defense says which steps are of one kind (``Defense.step_kind``). After two eager updates of a kind, the third is
recorded: what changes between updates is in tensors (``nuat.training.device_numbers``), images are in buffers, and the
generators are registered with the graph. Before a recording is trusted, the same update is taken eagerly from the same
state, and again after 1, 3, 7, ... epochs, where schedules have moved. If the recording differs by more than rounding,
or cannot be made, the run goes on eagerly and says why. The weights after such a trial are those of the eager update.

The short last batch of an epoch is always eager.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nuat.config import TrainConfig
from nuat.core.pass_counter import PassCounter
from nuat.data import Batch
from nuat.defenses import BatchLoss
from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.training.capture import Capture, cuda_capture
from nuat.training.device_numbers import DeviceNumbers
from nuat.training.state import TrainingState, tensors_of
from nuat.training.update import Taken, Updater

EAGER_UPDATES = 2
"""Updates of a kind before it is recorded: they make what optimizer and defense remember, and choose kernels."""
_MOST = 16
"""Recordings of a run; each keeps memory."""
_LEAST, _LARGEST = 1e-3, 0.1
"""Relative difference that always counts as rounding, and one that never does."""
_NOISE = 4.0
"""Differences up to this many times that of two eager updates count as rounding."""


def unsuited(config: TrainConfig, world: World) -> str | None:
    """Return why the updates of a run cannot be recorded. None: they can."""
    defense, optimizer = type(config.defense), config.optimizer
    if world.size > 1:
        return f"it is for one device, and this run has {world.size}"
    if "step_kind" not in vars(defense):  # a subclass may decide otherwise than the class that it changes
        return f"{defense.__name__} declares no kinds of steps, as where the host decides within a step"
    if optimizer.nesterov and optimizer.momentum_at_peak is not None:
        return "Nesterov's momentum cannot move in a recording; leave optimizer.nesterov or momentum_at_peak out"
    return None


def recorded_updates(
    config: TrainConfig, state: TrainingState, updater: Updater, world: World, *, tell: Callable[[str], None]
) -> "RecordedUpdates | None":
    """Return what takes the updates of a run by the setting ``graph``. None: they are taken eagerly.

    Raises:
        InputError: ``graph`` is on, but there is no GPU, or the updates cannot be recorded.
    """
    on_gpu = state.generator.device.type == "cuda"
    if config.graph == "off" or (config.graph == "auto" and (not on_gpu or world.size > 1)):
        return None
    reason = unsuited(config, world)
    if config.graph == "on" and (not on_gpu or reason is not None):
        raise InputError(f"graph=on: {reason or 'CUDA graphs need a GPU'}; leave it at auto.")
    return RecordedUpdates(config, state, updater, capture=cuda_capture(), tell=tell, reason=reason)


@dataclass
class _Recording:
    """Update of one kind that can be repeated."""

    batches: tuple[Batch, ...]  # buffers
    state: list[Tensor]  # of the defense
    repeat: Callable[[], Taken]
    passes: PassCounter
    """Passes of one update."""
    epoch: int
    """Epoch in which it was made."""
    trials: int = 0
    """Comparisons with an eager update."""

    def is_tried_in(self, epoch: int) -> bool:
        """Return whether it is compared in an epoch: 1, 3, 7, ... epochs after it was made, at the first update."""
        return epoch - self.epoch >= (1 << self.trials) - 1

    def load(self, batches: Sequence[Batch]) -> None:
        """Copy images into the buffers."""
        for buffer, batch in zip(self.batches, batches, strict=True):
            buffer.x.copy_(batch.x)
            buffer.y.copy_(batch.y)
            buffer.index.copy_(batch.index)


Tensors = Mapping[str, Sequence[Tensor]]
"""Tensors that an update may change, by what they are."""


@dataclass(frozen=True)
class _Snapshot:
    """Copy of all that an update changes and draws from."""

    tensors: Tensors
    generator: Tensor
    rng: Tensor
    """State of torch's global generator on the device."""


class RecordedUpdates:
    """Take the updates of a run from recordings, and eagerly where there is none."""

    def __init__(
        self,
        config: TrainConfig,
        state: TrainingState,
        updater: Updater,
        *,
        capture: Capture,
        tell: Callable[[str], None],
        reason: str | None = None,
    ) -> None:
        """Take the parts of the run; ``reason``: why updates are eager from the start, if they are."""
        self._config, self._state, self._updater = config, state, updater
        self._capture, self._tell = capture, tell
        dtype = next(state.model.parameters()).dtype
        self._numbers = DeviceNumbers(state.generator.device, dtype, len(state.averages))
        self._recordings: dict[Hashable, _Recording] = {}
        self._seen: Counter[Hashable] = Counter()
        self._refused, self._told = reason, False
        self.repeated = 0
        """Updates that were repeated from a recording."""

    def update(self, batches: Sequence[Batch]) -> tuple[BatchLoss, ...]:
        """Do one update as ``Updater.update``. Tensors in the terms hold until the next one."""
        if self._refused is not None:
            if not self._told:
                self._tell(self._refused)
            self._told = True
            return self._updater.update(batches)
        choosing = PassCounter(self._state.model)
        with choosing:  # the worst ball of a union takes passes
            key = self._key(batches)
        self._updater.count(choosing, batches)
        recording = self._recordings.get(key)
        if recording is not None and not _same(recording.state, tensors_of(self._state.defense)):
            del self._recordings[key]  # the state began anew, as with images of another size
            recording, self._seen[key] = None, 0
        self._seen[key] += 1
        if key is None or (recording is None and self._seen[key] <= EAGER_UPDATES):
            return self._updater.update(batches)
        if recording is None or recording.is_tried_in(self._state.epoch):
            return self._tried(key, batches, recording)
        self._numbers.fill(self._updater.numbers(), self._state.epoch, self._config.epochs)
        recording.load(batches)
        taken = self._with_floats(recording.repeat())
        self._updater.note(taken, batches)
        self._updater.count(recording.passes, batches)
        self.repeated += 1
        return taken.terms

    def _key(self, batches: Sequence[Batch]) -> Hashable:
        """Return what updates of one recording have in common. None: the update is not to be recorded."""
        config, numbers = self._config, self._updater.numbers()
        steps = [self._updater.step(batch, i, numbers) for i, batch in enumerate(batches)]
        kinds = [config.defense.step_kind(step) for step in steps]
        full = all(len(batch.y) == config.batch_size for batch in batches) and len(batches) == config.accumulate
        if not full or any(kind is None for kind in kinds):
            return None
        return (
            *kinds,
            steps[0].two_steps,
            *(step.threat.norm for step in steps),
            *((b.x.shape, b.x.stride()) for b in batches),
        )

    def _tried(self, key: Hashable, batches: Sequence[Batch], recording: _Recording | None) -> tuple[BatchLoss, ...]:
        """Do an update eagerly; from the same state, make its recording if there is none, and compare the two."""
        state, updater = self._state, self._updater
        numbers = updater.numbers()
        self._numbers.fill(numbers, state.epoch, self._config.epochs)
        held, plain, start = self._listed(), _plain(state.defense), self._snapshot()
        passes = PassCounter(state.model)
        with passes:
            eager = updater.take(batches, numbers)
        updater.note(eager, batches)
        updater.count(passes, batches)
        if not _same(held, self._listed()) or _plain(state.defense) != plain:
            self._refused = "the state of the defense holds more than tensors that are changed in place"
            return eager.terms
        end = self._snapshot()
        try:
            if eager.bad is None or not bool(eager.bad):  # an update that is left out moves nothing to compare
                self._refused = self._compared(key, batches, recording, start, eager, end, passes)
        except Exception as error:  # whatever fails in a recording, the eager update has been taken
            self._refused = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        self._restore(end)
        if self._refused is not None:
            self._recordings.clear()
        return eager.terms

    def _compared(
        self,
        key: Hashable,
        batches: Sequence[Batch],
        recording: _Recording | None,
        start: _Snapshot,
        eager: Taken,
        end: _Snapshot,
        passes: PassCounter,
    ) -> str | None:
        """Compare a recording, which is made if there is none, with the eager update from ``start`` to ``end``.

        Returns:
            Why no update should be repeated. None: the recording is right.
        """
        self._restore(start)
        again = self._updater.take(batches, self._updater.numbers())
        noise, _ = _difference(eager, end.tensors, again, self._tensors(), start.tensors)
        if recording is None:
            if len(self._recordings) == _MOST:
                return f"the defense declares more than {_MOST} kinds of steps"
            recording = self._recorded(batches, start, passes)
        self._restore(start)
        recording.load(batches)
        repeated = recording.repeat()
        if any(terms.events for terms in repeated.terms):
            return "the defense reports events, which a recording would repeat"
        difference, what = _difference(eager, end.tensors, repeated, self._tensors(), start.tensors)
        if difference > min(max(_LEAST, _NOISE * noise), _LARGEST):
            return (
                f"a repeated update differs from an eager one: {what} by {difference:.1e}, relative, where two eager "
                f"ones differ by {noise:.1e}"
            )
        recording.trials += 1
        self._recordings[key] = recording
        return None

    def _recorded(self, batches: Sequence[Batch], start: _Snapshot, passes: PassCounter) -> _Recording:
        """Record an update of the kind of these batches."""
        buffers = tuple(Batch(x=b.x.clone(), y=b.y.clone(), index=b.index.clone()) for b in batches)

        def body() -> Taken:
            return self._updater.take(buffers, self._numbers.numbers, self._numbers.held)

        self._restore(start)
        body()  # makes the scalars of schedules, which must exist before
        self._restore(start)
        self._numbers.complete = True
        try:
            repeat = self._capture(body, [self._state.generator])
        finally:
            self._numbers.complete = False
        return _Recording(buffers, tensors_of(self._state.defense), repeat, passes, self._state.epoch)

    def _with_floats(self, taken: Taken) -> Taken:
        """Return the terms with the schedules' own values, whose scalars may be rounded."""
        terms = []
        for one in taken.terms:
            known = {name: self._numbers.value_of(value) for name, value in one.metrics.items()}
            exact = {name: value for name, value in known.items() if value is not None}
            terms.append(replace(one, metrics={**one.metrics, **exact}))
        return replace(taken, terms=tuple(terms))

    def _tensors(self) -> Tensors:
        """Return the tensors that an update may change."""
        state = self._state
        return {
            "the weights": list(state.model.parameters()),
            "the buffers": list(state.model.buffers()),
            "the optimizer": tensors_of(state.optimizer.state),
            "the averages": tensors_of(state.averages),
            "the state of the defense": tensors_of(state.defense),
        }

    def _listed(self) -> list[Tensor]:
        return [tensor for tensors in self._tensors().values() for tensor in tensors]

    def _snapshot(self) -> _Snapshot:
        device = self._state.generator.device
        rng = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
        tensors = {name: [t.detach().clone() for t in tensors] for name, tensors in self._tensors().items()}
        return _Snapshot(tensors, self._state.generator.get_state(), rng)

    @torch.no_grad()
    def _restore(self, snapshot: _Snapshot) -> None:
        device = self._state.generator.device
        for name, tensors in self._tensors().items():
            for tensor, copy in zip(tensors, snapshot.tensors[name], strict=True):
                tensor.copy_(copy)
        self._state.generator.set_state(snapshot.generator)
        if device.type == "cuda":
            torch.cuda.set_rng_state(snapshot.rng, device)
        else:
            torch.set_rng_state(snapshot.rng)


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Return whether two sequences hold the same tensors, rather than equal ones."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _plain(values: Any) -> list[Any]:
    """Return what is not a tensor in nested dictionaries and sequences, in order."""
    if isinstance(values, Mapping):
        return [item for name, value in values.items() for item in (name, *_plain(value))]
    if isinstance(values, (list, tuple)):
        return [item for value in values for item in _plain(value)]
    return [] if isinstance(values, Tensor) else [values]


@torch.no_grad()
def _difference(eager: Taken, end: Tensors, other: Taken, there: Tensors, start: Tensors) -> tuple[float, str]:
    """Return the largest relative difference of another update from the eager one, and what differs so.

    Tensors differ relative to their change from ``start``, terms relative to themselves.
    """
    found = [(0.0, "nothing")]
    for name, tensors in end.items():
        moved = differs = 0.0
        for one, two, old in zip(tensors, there[name], start[name], strict=True):
            moved += float((one.double() - old.double()).square().sum())
            differs += float((one.double() - two.double()).square().sum())
        found.append((0.0 if differs == 0.0 else (differs / moved) ** 0.5 if moved else math.inf, name))
    for mine, theirs in zip(eager.terms, other.terms, strict=True):
        for name, value in {"the loss": mine.loss, **mine.metrics}.items():
            a, b = float(value), float({"the loss": theirs.loss, **theirs.metrics}[name])
            found.append((abs(a - b) / (abs(a) + 1e-6), name))
    return max((math.inf if math.isnan(difference) else difference, what) for difference, what in found)
