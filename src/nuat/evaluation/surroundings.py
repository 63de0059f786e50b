"""Settings and generators of torch that a model of unknown origin may change in a pass, put back after it."""

import warnings
from typing import Any

import torch
from torch import empty, get_default_dtype, is_autocast_enabled, is_grad_enabled

_ALL, _ONE_IN = 64, 8
"""Passes that keep the states of the generators: the first 64, then one in 8, as this costs as much as all the rest."""


class Surroundings:
    """Context of a pass of a model on ``device``: what the model changes of torch is put back at its end.

    That is the default type and device, whether gradients and autocast are on, the filters of warnings, and the
    generators that the model seeds: else attacks that draw from them would repeat their draws. Another seed shows in
    every pass; the seed that is there already shows in the passes that keep the states of the generators. A model that
    has seeded once is put back from then on.
    """

    def __init__(self, device: torch.device) -> None:
        self.reseeded = False
        """Whether the model seeded a generator in a pass."""
        self._device, self._kind = device, device.type
        generators = [torch.default_generator]
        if device.type == "cuda":
            generators.append(torch.cuda.default_generators[device.index])
        self._generators = [_Generator(generator) for generator in generators]
        seeds = [generator.initial_seed for generator in generators]
        self._seeds = seeds[0] if len(seeds) == 1 else lambda: [seed() for seed in seeds]
        self._place = empty(0).device  # nothing but a model changes the default device later
        self._passes = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Surroundings":
        """Return the surroundings of a copy of the model, which draws from the same generators."""
        return Surroundings(self._device)

    def __enter__(self) -> None:
        self._passes += 1
        self._keeps = self.reseeded or self._passes <= _ALL or self._passes % _ONE_IN == 0
        if self._keeps:
            for generator in self._generators:
                generator.begin()
        self._before = self._read()

    def __exit__(self, *error: object) -> None:
        if self._read() != self._before or empty(0).device != self._place:
            self._put_back()
        if self._keeps:
            for generator in self._generators:
                self.reseeded |= generator.repeats()
            if self.reseeded:
                for generator in self._generators:
                    generator.put_back()

    def _read(self) -> tuple[Any, ...]:
        """Return the seeds of the generators and the settings."""
        return (
            self._seeds(),
            get_default_dtype(),
            is_grad_enabled(),
            is_autocast_enabled(self._kind),
            warnings.filters[:],
        )

    def _put_back(self) -> None:
        """Put the settings back that are others than before, and note another seed."""
        seeds, dtype, gradients, cast, filters = self._before
        self.reseeded |= self._seeds() != seeds
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        torch.set_autocast_enabled(self._kind, cast)
        if empty(0).device != self._place:
            torch.set_default_device(None if self._place.type == "cpu" else self._place)
        if warnings.filters != filters:
            warnings.resetwarnings()  # which also tells that they changed
            warnings.filters[:] = filters  # type: ignore[index]


class _Generator:
    """States of a generator around the passes that keep them."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._began = self._ended = generator.get_state()

    def begin(self) -> None:
        """Keep the state before a pass."""
        self._first, self._began = self._began, self._generator.get_state()

    def repeats(self) -> bool:
        """Keep the state after a pass, and return whether the model has seeded with the seed that was there.

        Two passes then begin in different states, move on and end in one.
        """
        last, self._ended = self._ended, self._generator.get_state()
        return (
            torch.equal(last, self._ended)
            and not torch.equal(self._first, self._began)
            and not torch.equal(self._began, self._ended)
        )

    def put_back(self) -> None:
        """Return to the state before the pass."""
        self._generator.set_state(self._began)
