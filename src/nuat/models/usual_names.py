"""State dicts from elsewhere: usual spellings of parameter names, checked as a whole before anything is copied."""

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nuat.errors import InputError, printable
from nuat.models.resnet import BLOCKS

_WRAPPINGS = ("state_dict", "model_state_dict", "model", "net")
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
"""Keys of a weight average in a checkpoint."""
_UNKNOWN = "no network of nuat.models"
_WRAPPER = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")
"""Names that DataParallel and torch.compile put before those of the module that they wrap, anywhere."""
_PREFIX = re.compile(r"(?:(?:module|model|net|_orig_mod)\.)+")
_AVERAGE = re.compile(r"(?:module\.)*(?:ema|ema_model|model_ema|averaged_model|swa_model)\.")
_DOUBLE = re.compile(r"((?:module\.)*)attacker\.")
"""Madry's robustness package holds the model twice: as ``model`` and as ``attacker.model``."""
_NORMALISER = re.compile(r"^(?:module\.)*normalizer\.new_(mean|std)$")
_EXTRA = "_extra_state"

_Spelling = Callable[[str], str]
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
    kept: tuple[str, ...]
    """Names of the model that keep their values."""
    faults: str
    """Names that do not fit, for the error. Empty: everything fits."""


def load_usual_names(
    model: nn.Module, state_dict: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> tuple[str, ...]:
    """Load weights into a module, whatever the usual spelling of their names.

    The names as they are come first, and are rewritten only if they do not fit:

    - ``module.`` (DataParallel) and ``_orig_mod.`` (torch.compile) are taken out anywhere; ``model.``, ``net.`` and
      any other prefix that all names share (Lightning), at the beginning.
    - ``linear`` is read as ``fc`` and ``shortcut`` as ``downsample`` (the CIFAR ResNets of kuangliu/pytorch-cifar).
    - TRADES' ``sub_block1``, which its forward pass never uses, and Madry's ``attacker.`` doubles are left out.
    - A wrapping such as {"state_dict": {...}} is opened. If it holds a weight average besides the weights as trained,
      these are taken, and a warning says so.

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
    own = model.state_dict()
    notes: list[str] = []
    given = _without_doubles(unwrapped(state_dict), own, notes)
    spellings = (_exact, _unwrapped_name, _usual_name)
    tries: list[tuple[Mapping[str, Any], _Spelling]] = [(given, spelling) for spelling in spellings]
    shared = given
    while (shorter := _without_shared_prefix(shared)) is not None:
        shared = shorter
        tries += [(shared, _exact), (shared, _usual_name)]
    found: list[tuple[Mapping[str, Any], _Match]] = []
    clash: InputError | None = None
    for state, spelling in tries:
        try:
            match = _match(own, state, spelling, may_differ)
        except _SameNameError as error:
            clash = clash or (error if error.of_weights else None)
            continue
        if not match.faults:
            for note in notes:
                warnings.warn(printable(note), RuntimeWarning, stacklevel=2)
            model.load_state_dict(match.values)
            return match.kept
        found.append((state, match))
    if clash is not None:
        raise clash
    # the last spelling of all names has the fewest faults
    state, match = next(one for one in reversed(found) if one[0] is given)
    raise InputError(f"the weights do not fit the model; {match.faults} {_advice(own, given)}")


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
        taken = next((key for key in (*_WRAPPINGS, *_AVERAGES) if isinstance(held.get(key), Mapping)), None)
        if taken is None:
            break
        average = next((key for key in _AVERAGES if isinstance(held.get(key), Mapping)), None)
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
                f"state_dict alone, or under one of the keys {', '.join(_WRAPPINGS)}."
            )
    return state_dict


def _exact(name: str) -> str:
    return name


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


def _without_doubles(given: Mapping[str, Any], own: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the weights without entries that no pass of the model uses; ``notes`` takes what must be said of it."""
    kept: dict[str, Any] = {}
    averages = {name for name in given if _AVERAGE.match(name)} if not any(map(_AVERAGE.match, own)) else set()
    extra = {spelled for name in own for spelled in (_unwrapped_name(name), _usual_name(name))}
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
        elif name.endswith(_EXTRA) and not {_unwrapped_name(name), _usual_name(name)} & extra:
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


def _match(
    own_state: Mapping[str, Any], given_state: Mapping[str, Any], spelling: _Spelling, may_differ: Collection[str]
) -> _Match:
    """Compare the weights with the model, their names in one spelling."""
    own, given = _spelled(own_state, spelling, "model"), _spelled(given_state, spelling, "state_dict")
    kept = [
        name
        for name, (original, tensor) in own.items()
        if original in may_differ and (name not in given or _shape(given[name][1]) != _shape(tensor))
    ]
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
    return _Match(values, tuple(own[name][0] for name in kept), faults + "." * bool(faults))


def _advice(own_state: Mapping[str, Any], given_state: Mapping[str, Any]) -> str:
    """Return what the weights and the model look like, and the next step."""
    own, given = (
        {_usual_name(name): (name, value) for name, value in state.items()} for state in (own_state, given_state)
    )
    theirs, ours = _looks_like(given), _looks_like(own)
    looks = "" if theirs == ours == _UNKNOWN else f"The weights look like {theirs}, the model is {ours}. "
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


def _looks_like(entries: _Entries) -> str:
    """Return the architecture that names and shapes point to, in the terms of ``nuat.models.build``."""
    shapes = {name: tuple(value.shape) for name, (_, value) in entries.items() if isinstance(value, Tensor)}
    stem = shapes.get("conv1.weight", ())
    head = shapes.get("fc.weight") or shapes.get("fc2.weight") or ()
    if len(stem) != 4 or len(head) != 2:
        return _UNKNOWN
    ends = f"{stem[1]} channels, {head[0]} classes"

    def blocks(stage: str) -> int:
        return sum(re.fullmatch(rf"{stage}\.\d+\.conv1\.weight", name) is not None for name in shapes)

    if blocks("block1.layer"):
        k = shapes.get("block1.layer.0.conv1.weight", (0,))[0] // 16
        return f"wrn-{6 * blocks('block1.layer') + 4}-{k} ({ends})"
    if blocks("layer1") and "layer1.0.conv1.bias" in shapes:
        k = shapes["layer1.0.conv1.weight"][0] // 16
        return f"wrn-{6 * blocks('layer1') + 4}-{k} of variant nuat ({ends})"
    if blocks("layer1"):
        counts = tuple(blocks(f"layer{stage}") for stage in (1, 2, 3, 4))
        deep = "layer1.0.conv3.weight" in shapes
        names = [name for name, known in BLOCKS.items() if known == counts and (name == "resnet50") == deep]
        kind = "imagenet" if stem[2] == 7 else "cifar"
        return f"{names[0] if names else 'another ResNet'} ({kind} stem, width {stem[0]}, {ends})"
    return f"{'mnist-cnn' if 'conv4.weight' in shapes else 'small-cnn'} (width {stem[0]}, {ends})"
