"""Settings and generators of torch that a model of unknown origin may change in a pass, put back after it."""

import warnings
from typing import Any

import torch
from torch import empty, get_default_dtype, is_autocast_enabled, is_grad_enabled
from torch._C import _is_any_autocast_enabled, _len_torch_function_stack

_FIRST, _ONE_IN = 64, 8
"""Passes that keep the states of the generators: the first 64, then one in 8, to save time."""
_CPU = torch.device("cpu")


def _yes() -> bool:
    return True


class Surroundings:
    """Settings and generators of torch around a pass on ``device``: ``begin`` notes them, ``end`` puts them back.

    - The default type, the default device, gradients, autocast and the filters of warnings are put back in every pass.
    - A generator that the model seeds is put back: else attacks that draw from it would repeat their draws. Another
      seed shows in every pass, the seed that is there already in passes that keep the states. Where the model seeds
      for the first time in another pass, the generator stays for that pass as the model left it.

    Example:
        >>> import torch
        >>> from nuat.evaluation.surroundings import Surroundings
        >>> around, state = Surroundings(torch.device("cpu")), torch.get_rng_state()
        >>> before = around.begin()
        >>> _ = torch.manual_seed(torch.initial_seed() + 1)  # as a model might
        >>> around.end(before)
        >>> around.reseeded, torch.equal(torch.get_rng_state(), state)
        (True, True)
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._kind = device, device.type
        # torch counts these kinds alone as any
        self._any_autocast = _is_any_autocast_enabled if self._kind in ("cpu", "cuda") else _yes
        generators = [torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index])
        self._generators = [_Generator(generator) for generator in generators]
        # of the host and of the device; on a CPU they are the same
        self._seed, self._device_seed = generators[0].initial_seed, generators[-1].initial_seed
        self._passes, self._keeps = 0, True
        self.reseeded = False
        """Whether the model seeded a generator in a pass."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy of the model is watched: by the same generators, from the start."""
        return Surroundings, (self._device,)

    def begin(self) -> tuple[Any, ...]:
        """Return what ``end`` puts back after the pass that begins."""
        self._passes += 1
        # multiples of this number modulo 2 ** 32 follow no period that the draws of an attack might have
        self._keeps = self.reseeded or self._passes <= _FIRST or self._passes * 2654435761 % 2**32 < 2**32 // _ONE_IN
        if self._keeps:
            for generator in self._generators:
                generator.begin()
        return self._settings()

    def end(self, before: tuple[Any, ...]) -> None:
        """Put back what is not as ``before`` the pass."""
        try:
            changed = self._settings() != before
        except Exception:  # the model has set a default device that is not there
            changed = True
        if changed:
            *settings, seeds = before
            self._put_back(*settings)
            now = self._seed(), self._device_seed()
            for generator, one, other in zip(self._generators, seeds, now, strict=False):
                generator.reseeded |= one != other
        if self._keeps:
            for generator in self._generators:
                generator.end()
        if changed or self._keeps:
            self.reseeded = any(generator.reseeded for generator in self._generators)

    def _settings(self) -> tuple[Any, ...]:
        return (
            get_default_dtype(),
            is_grad_enabled(),
            # ask first whether any is set: with cold caches, as between passes, the full questions take longer
            self._any_autocast() and is_autocast_enabled(self._kind),
            empty(0).device if _len_torch_function_stack() else _CPU,
            warnings.filters[:],
            (self._seed(), self._device_seed()),
        )

    def _put_back(self, dtype: torch.dtype, gradients: bool, cast: bool, device: torch.device, filters: Any) -> None:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        torch.set_autocast_enabled(self._kind, cast)
        try:
            moved = empty(0).device != device
        except Exception:
            moved = True
        if moved:
            torch.set_default_device(None if device.type == "cpu" else device)
        if warnings.filters != filters:
            warnings.resetwarnings()  # which also tells that they changed
            warnings.filters[:] = filters  # type: ignore[index]


class _Generator:
    """A generator that a model may draw from, and its states around the passes that keep them."""

    def __init__(self, generator: torch.Generator) -> None:
        self.reseeded = False
        """Whether the model seeded it in a pass."""
        self._generator = generator
        self._began = self._ended = generator.get_state()

    def begin(self) -> None:
        """Keep the state before a pass."""
        self._first, self._began = self._began, self._generator.get_state()

    def end(self) -> None:
        """Put the state back after a pass, if the model seeds it.

        Two passes that began in different states, moved on and ended in one show that it does; another seed shows in
        ``Surroundings.end``.
        """
        last, self._ended = self._ended, self._generator.get_state()
        self.reseeded = self.reseeded or (
            torch.equal(last, self._ended)
            and not torch.equal(self._first, self._began)
            and not torch.equal(self._began, self._ended)
        )
        if self.reseeded:
            self._generator.set_state(self._began)
