"""State dicts from elsewhere: usual spellings of parameter names, checked as a whole before anything is copied."""

import contextlib
import itertools
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from nuat.errors import InputError, printable
from nuat.models.likely_network import LikelyNetwork, likely_network
from nuat.models.wrappings import WRAPPINGS, unwrapped, without_doubles

_UNKNOWN = "no network of nuat.models"
_WRAPPER = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")
"""Names that DataParallel and torch.compile put before those of the module that they wrap, anywhere."""
_PREFIX = re.compile(r"(?:(?:module|model|net|network|_orig_mod)\.)+")

_Spelling = Callable[[str], str]
"""Function from a name to the name that is compared."""
_Entries = dict[str, tuple[str, Any]]
"""Usual name -> (original name, tensor)."""


class _SameNameError(InputError):
    """Two names that become one in a spelling."""

    of_weights = False
    """Whether the names are those of the weights, not of the model."""


@dataclass(frozen=True)
class _Match:
    """Comparison of the weights with the model in one spelling."""

    values: dict[str, Any]
    """The whole new state dict of the model."""
    kept: dict[str, list[int] | None]
    """Names of the model that keep their values, and the shape that each has in the weights."""
    faults: str
    """Names that do not fit, for the error. Empty: everything fits."""


def load_usual_names(
    model: nn.Module, state_dict: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> tuple[str, ...]:
    """Load weights into a module, whatever the usual spelling of their names.

    The names as they are come first, as names of the model or of the network that ``adapt`` put behind a
    normalisation. They are rewritten only if they do not fit:

    - ``module.`` (DataParallel) and ``_orig_mod.`` (torch.compile) are taken out anywhere; ``model.``, ``net.`` and
      any other prefix that all names share (Lightning), at the beginning.
    - ``linear`` is read as ``fc`` and ``shortcut`` as ``downsample`` (the CIFAR ResNets of kuangliu/pytorch-cifar).
    - TRADES' ``sub_block1``, which its forward pass never uses, and Madry's ``attacker.`` doubles are left out.
    - A wrapping such as {"state_dict": {...}} is opened, and so is one whose only dictionary of tensors has another
      key. If it holds a weight average besides the weights as trained, these are taken, and a warning says so.
    - If only the names under ``model.``, ``net.`` or ``network.`` fit, the others (of losses, metrics) are left out,
      and a warning says so.

    Batch counts of batch norm and the normalisation may be absent; the model keeps its own. A normalisation in the
    weights replaces the model's.

    Args:
        model: the module; it is changed only if everything fits.
        state_dict: the weights.
        may_differ: names of the model's parameters, such as a head's, that may be absent or of another shape. They then
            keep their values.

    Returns:
        The names that kept their values.

    Raises:
        InputError: a name or shape does not fit.

    Example:
        >>> from torch import nn
        >>> from nuat.models import load_usual_names
        >>> net, other = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> load_usual_names(net, {f"module.{name}": tensor for name, tensor in other.state_dict().items()})
        ()
        >>> bool((net.weight == other.weight).all())
        True
    """
    match, notes = _fitting(model, state_dict, may_differ)
    for note in notes:
        warnings.warn(printable(note), RuntimeWarning, stacklevel=2)
    model.load_state_dict(match.values)
    return tuple(match.kept)


def other_shapes(
    model: nn.Module, state_dict: Mapping[str, Any], may_differ: Collection[str]
) -> dict[str, list[int] | None]:
    """Return those names of ``may_differ`` that do not fit, with their shapes in the weights; None: absent.

    Raises:
        InputError: another name or shape does not fit.
    """
    return _fitting(model, state_dict, may_differ)[0].kept


def likely_network_of(state_dict: Mapping[str, Any]) -> LikelyNetwork | None:
    """Return the network of this package that weights are likely for, whatever the usual spelling of their names."""
    given = unwrapped(state_dict)
    tries: list[Mapping[str, Any]] = [given]
    while (shorter := _without_shared_prefix(tries[-1])) is not None:
        tries.append(shorter)
    found = (likely_network({_usual_name(name): value for name, value in state.items()}) for state in tries)
    return next((network for network in found if network is not None), None)


def _fitting(model: nn.Module, state_dict: Mapping[str, Any], may_differ: Collection[str]) -> tuple[_Match, list[str]]:
    """Return the comparison in the first spelling that fits, and the notes for the user.

    Raises:
        InputError: no spelling fits.
    """
    own = model.state_dict()
    notes: list[str] = []
    spelled = {spelling(name) for name in own for spelling in (_unwrapped_name, _usual_name)}

    def has(name: str) -> bool:
        return not spelled.isdisjoint((_unwrapped_name(name), _usual_name(name)))

    given = without_doubles(unwrapped(state_dict), {*own, *map(_behind, own)}, has, notes)
    states: list[Mapping[str, Any]] = [given]
    while (shorter := _without_shared_prefix(states[-1])) is not None:
        states.append(shorter)
    closest: _Match | None = None
    clash: InputError | None = None
    for state, (ours, theirs) in itertools.product(states, _spellings()):
        try:
            match = _match(own, state, ours, theirs, may_differ)
        except _SameNameError as error:
            clash = clash or (error if error.of_weights else None)
            continue
        if not match.faults:
            return match, notes
        # the last spelling of all names has the fewest faults
        closest = match if state is given or closest is None else closest
    if inside := _network_inside(own, given, may_differ):
        key, match = inside
        others = [name for name in given if not name.startswith(f"{key}.")]
        return match, [*notes, f"of the weights those under {key}. are taken; left out: {_first(others)}"]
    if clash is not None:
        raise clash
    assert closest is not None  # spelling names exactly makes no two of them one
    raise InputError(f"the weights do not fit the model; {closest.faults} {_advice(own, given)}")


def _spellings() -> list[tuple[_Spelling, _Spelling]]:
    """Return the spellings of the model's names and of the weights', the most exact first."""
    return [
        (_exact, _exact),
        (_behind, _exact),
        (_unwrapped_name, _unwrapped_name),
        (lambda name: _unwrapped_name(_behind(name)), _unwrapped_name),
        (_usual_name, _usual_name),
    ]


def _exact(name: str) -> str:
    return name


def _behind(name: str) -> str:
    """Return the name in the network that ``adapt`` put behind a normalisation."""
    return name.removeprefix("net.")


def _unwrapped_name(name: str) -> str:
    return _WRAPPER.sub(r"\1", name)


def _usual_name(name: str) -> str:
    name = _unwrapped_name(name)
    name = _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name
    return re.sub(r"^linear\.", "fc.", name).replace(".shortcut.", ".downsample.")


def _without_shared_prefix(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a state dict without the first part of its names if all share it, or None."""
    first = {name.partition(".")[0] for name in state}
    if len(first) != 1 or not all("." in name for name in state):
        return None
    return {name.partition(".")[2]: value for name, value in state.items()}


def _network_inside(
    own: Mapping[str, Any], given: Mapping[str, Any], may_differ: Collection[str]
) -> tuple[str, _Match] | None:
    """Return the usual prefix whose entries alone fit, as where a training module holds more than its network."""
    for key in WRAPPINGS:
        part = {name.removeprefix(f"{key}."): value for name, value in given.items() if name.startswith(f"{key}.")}
        others = [name for name in given if not name.startswith(f"{key}.")]
        # a normalisation belongs to the function that the weights compute
        if part and others and not any("normalise." in name for name in others):
            for ours, theirs in _spellings():
                with contextlib.suppress(_SameNameError):
                    match = _match(own, part, ours, theirs, may_differ)
                    if not match.faults:
                        return key, match
    return None


def _match(
    own_state: Mapping[str, Any],
    given_state: Mapping[str, Any],
    ours: _Spelling,
    theirs: _Spelling,
    may_differ: Collection[str],
) -> _Match:
    """Compare the weights with the model, the names of each in a spelling."""
    own, given = _spelled(own_state, ours, "model"), _spelled(given_state, theirs, "state_dict")
    kept = [
        name
        for name, (original, tensor) in own.items()
        if original in may_differ and (name not in given or _shape(given[name][1]) != _shape(tensor))
    ]
    shapes = {name: _shape(given[name][1]) for name in kept if name in given}
    given = {name: entry for name, entry in given.items() if name not in kept}
    given = {name: entry for name, entry in given.items() if name in own or not name.startswith("sub_block1.")}
    normalised = any(name.startswith("normalise.") for name in given)
    missing = [
        name
        for name in own
        if name not in given
        and name not in kept
        and not name.endswith(".num_batches_tracked")
        and (normalised or not name.startswith("normalise."))
    ]
    unexpected = [original for name, (original, _) in given.items() if name not in own]
    misshaped = [
        f"{original} {_shape(tensor)} for {_shape(own[name][1])}"
        for name, (original, tensor) in given.items()
        if name in own and _shape(tensor) != _shape(own[name][1])
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    faults = "; ".join(f"{kind}: {_first(names)}" for kind, names in kinds.items() if names)
    values = {original: given.get(name, (original, tensor))[1] for name, (original, tensor) in own.items()}
    return _Match(values, {own[name][0]: shapes.get(name) for name in kept}, faults + "." * bool(faults))


def _advice(own_state: Mapping[str, Any], given_state: Mapping[str, Any]) -> str:
    """Return what the weights and the model look like, and the next step."""
    own, given = ({_usual_name(name): value for name, value in state.items()} for state in (own_state, given_state))
    theirs, ours = likely_network(given), likely_network(own)
    looks = f"The weights look like {theirs or _UNKNOWN}, the model is {ours or _UNKNOWN}. " if theirs or ours else ""
    normalised, normalises = (any(name.startswith("normalise.") for name in names) for names in (given, own))
    if normalised and not normalises:
        return f"{looks}The weights carry a normalisation; build the model with a mean and std."
    return f"{looks}Build the model that the weights were trained with."


def _spelled(state: Mapping[str, Any], spelling: _Spelling, what: str) -> _Entries:
    entries: _Entries = {}
    for original, value in state.items():
        name = spelling(original)
        if name in entries:
            error = _SameNameError(
                f"{what}: {entries[name][0]} and {original} both mean {name}; pass the weights of one network alone."
            )
            error.of_weights = what == "state_dict"
            raise error
        entries[name] = (original, value)
    return entries


def _shape(value: Any) -> list[int] | None:
    """Return a tensor's shape, or None for an extra state."""
    return list(value.shape) if isinstance(value, Tensor) else None


def _first(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
