"""Checkpoints as people save them: dictionaries inside dictionaries, weight averages, and doubles of the network."""

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from nuat.errors import InputError

WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys of the weights as trained in a checkpoint, and prefixes of their names."""
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
"""Keys of a weight average in a checkpoint."""
_AVERAGE = re.compile(r"(?:module\.)*(?:ema|ema_model|model_ema|averaged_model|swa_model)\.")
_DOUBLE = re.compile(r"((?:module\.)*)attacker\.")
"""Madry's robustness package holds the model twice: as ``model`` and as ``attacker.model``."""
_NORMALISER = re.compile(r"^(?:module\.)*normalizer\.new_(mean|std)$")
_EXTRA = "_extra_state"


def unwrapped(state_dict: object) -> Mapping[str, Tensor]:
    """Return the innermost dictionary of tensors in a checkpoint.

    If a checkpoint holds a weight average besides the weights as trained, the latter are returned, and a warning says
    so. Entries called ``_extra_state`` need not be tensors.

    Raises:
        InputError: it is not a dictionary, is empty, or holds something other than tensors.

    Example:
        >>> from nuat.models import unwrapped
        >>> import torch
        >>> list(unwrapped({"epoch": 3, "state_dict": {"weight": torch.zeros(1)}}))
        ['weight']
    """
    while isinstance(state_dict, Mapping):
        held = state_dict
        average = next((key for key in _AVERAGES if isinstance(held.get(key), Mapping)), None)
        taken = next((key for key in WRAPPINGS if isinstance(held.get(key), Mapping)), None)
        if taken is None:
            taken = _only_weights({key: value for key, value in held.items() if key not in _AVERAGES})
        if taken is None and average is None:
            break
        taken = average if taken is None else taken
        if average is not None:
            other = f"; give checkpoint[{average!r}] for the average" if taken != average else ""
            kind = "the weights as trained" if taken != average else "a weight average, the only weights"
            warnings.warn(f"the checkpoint's {taken!r} are taken: {kind}{other}", RuntimeWarning, stacklevel=2)
        state_dict = held[taken]
    if not isinstance(state_dict, Mapping):
        raise InputError(f"state_dict is a {type(state_dict).__name__}: expected a dict from names to tensors.")
    if not state_dict:
        raise InputError("state_dict is empty: expected a dict from names to tensors.")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not (isinstance(value, Tensor) or name.endswith(_EXTRA)):
            raise InputError(
                f"state_dict[{name!r}] is a {type(value).__name__}: expected tensors by name; pass the model's "
                f"state_dict alone, or under one of the keys {', '.join(WRAPPINGS)}."
            )
    return state_dict


def _only_weights(held: Mapping[Any, Any]) -> Any:
    """Return the key of the only dictionary of tensors in a checkpoint that holds no tensor itself, or None."""
    if any(isinstance(value, Tensor) for value in held.values()):
        return None
    found = [
        key
        for key, value in held.items()
        if isinstance(value, Mapping)
        and any(isinstance(tensor, Tensor) for tensor in value.values())
        and all(isinstance(tensor, Tensor) or str(name).endswith(_EXTRA) for name, tensor in value.items())
    ]
    return found[0] if len(found) == 1 else None


def without_doubles(
    given: Mapping[str, Any], own: Collection[str], has_extra: Callable[[str], bool], notes: list[str]
) -> dict[str, Any]:
    """Return the weights without entries that no pass of the model uses.

    Args:
        given: the weights, by name.
        own: names of the model.
        has_extra: whether the model has a state that is no tensor under a name.
        notes: receives a line for each choice that the user must know of.

    Raises:
        InputError: a double differs from its twin.
    """
    kept: dict[str, Any] = {}
    averages = {name for name in given if _AVERAGE.match(name)} if not any(map(_AVERAGE.match, own)) else set()
    live = [name for name in given if name not in averages and not name.endswith("n_averaged")]
    for name, value in given.items():
        if name in own:
            kept[name] = value
        elif (double := _DOUBLE.match(name)) is not None:
            twin = given.get(double[1] + name[double.end() :].replace("normalize.", "normalizer."))
            if isinstance(twin, Tensor) and isinstance(value, Tensor) and not torch.equal(twin, value):
                raise InputError(f"state_dict: {name} differs from its double without attacker.; keep one of them.")
        elif normaliser := _NORMALISER.match(name):
            kept[f"normalise.{normaliser[1]}"] = value.reshape(1, -1, 1, 1)
        elif name in averages:
            if not live:
                kept[_AVERAGE.sub("", name, count=1)] = value
        elif name.endswith(_EXTRA) and not has_extra(name):
            notes.append(f"the weights hold {name}, which the model does not have; it is left out")
        elif not name.endswith("n_averaged"):
            kept[name] = value
    if averages:
        example = min(averages)
        notes.append(
            f"the weights hold a weight average ({example}, ...): the weights as trained are taken"
            if live
            else f"the weights are a weight average ({example}, ...)"
        )
    return kept
