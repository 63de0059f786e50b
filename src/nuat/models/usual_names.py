"""State dicts from elsewhere: usual spellings of parameter names, checked as a whole before anything is copied."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from nuat.errors import InputError
from nuat.models.resnet import BLOCKS

_WRAPPINGS = ("state_dict", "model_state_dict", "model", "net")
_UNKNOWN = "no network of nuat.models"
_PREFIX = re.compile(r"(?:(?:module|model|net|_orig_mod)\.)+")


def load_usual_names(
    model: nn.Module, state_dict: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> tuple[str, ...]:
    """Load weights into one of our networks (or a Classifier around it), whatever the usual spelling of their names.

    Accepted: the prefixes module., model., net. and _orig_mod.; a wrapping {"state_dict" | "model_state_dict" |
    "model" | "net": {...}}; linear for fc and shortcut for downsample (the CIFAR ResNets of kuangliu/pytorch-cifar);
    TRADES' sub_block1, which its forward pass never uses. May be absent: the batch counts of batch norm, and the
    normalisation, for which the model keeps its own. Present, the normalisation of the weights replaces the model's.
    Names in may_differ (of the model's parameters: a head) may be absent or of another shape, and keep the model's own
    values then; returned are those that did.
    Raises InputError, and changes nothing, unless every other name and shape fits.

    Example:
        >>> from torch import nn
        >>> from nuat.models import load_usual_names
        >>> net, other = nn.Linear(2, 3), nn.Linear(2, 3)
        >>> load_usual_names(net, {f"module.{name}": tensor for name, tensor in other.state_dict().items()})
        ()
        >>> bool((net.weight == other.weight).all())
        True
    """
    own = _by_usual_name(model.state_dict(), "model")
    given = _by_usual_name(unwrapped(state_dict), "state_dict")
    kept = [
        name
        for name, (original, tensor) in own.items()
        if original in may_differ and (name not in given or given[name][1].shape != tensor.shape)
    ]
    whole = given
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
        f"{original} {list(tensor.shape)} for {list(own[name][1].shape)}"
        for name, (original, tensor) in given.items()
        if name in own and tensor.shape != own[name][1].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    faults = [f"{kind}: {_first(names)}" for kind, names in kinds.items() if names]
    if faults:
        if normalised and not any(name.startswith("normalise.") for name in own):
            advice = "The weights carry a normalisation; build the model with a mean and std."
        else:
            advice = "Build the model that the weights were trained with."
        theirs, ours = _looks_like(whole), _looks_like(own)
        looks = "" if theirs == ours == _UNKNOWN else f" The weights look like {theirs}, the model is {ours}."
        raise InputError(f"the weights do not fit the model; {'; '.join(faults)}.{looks} {advice}")
    model.load_state_dict(
        {original: given.get(name, (original, tensor))[1] for name, (original, tensor) in own.items()}
    )
    return tuple(own[name][0] for name in kept)


def unwrapped(state_dict: object) -> Mapping[str, Tensor]:
    """Return the innermost dictionary of tensors in a checkpoint.

    Raises:
        InputError: it is not a dictionary, is empty, or holds something other than tensors.

    Example:
        >>> from nuat.models import unwrapped
        >>> import torch
        >>> list(unwrapped({"epoch": 3, "state_dict": {"weight": torch.zeros(1)}}))
        ['weight']
    """
    while isinstance(state_dict, Mapping):
        inner = next((state_dict[w] for w in _WRAPPINGS if isinstance(state_dict.get(w), Mapping)), None)
        if inner is None:
            break
        state_dict = inner
    if not isinstance(state_dict, Mapping):
        raise InputError(f"state_dict is a {type(state_dict).__name__}: expected a dict from names to tensors.")
    if not state_dict:
        raise InputError("state_dict is empty: expected a dict from names to tensors.")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(
                f"state_dict[{name!r}] is a {type(value).__name__}: expected tensors by name; pass the model's "
                f"state_dict alone, or under one of the keys {', '.join(_WRAPPINGS)}."
            )
    return state_dict


def _by_usual_name(state: Mapping[str, Tensor], what: str) -> dict[str, tuple[str, Tensor]]:
    """Usual name -> (original name, tensor); the same spelling for the model and for the weights."""
    entries: dict[str, tuple[str, Tensor]] = {}
    for original, tensor in state.items():
        name = _PREFIX.sub("", original, count=1) if _PREFIX.match(original) else original
        name = re.sub(r"^linear\.", "fc.", name).replace(".shortcut.", ".downsample.")
        if name in entries:
            raise InputError(
                f"{what}: {entries[name][0]} and {original} both mean {name}; pass the weights of one network alone."
            )
        entries[name] = (original, tensor)
    return entries


def _first(names: list[str], count: int = 3) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _looks_like(entries: Mapping[str, tuple[str, Tensor]]) -> str:
    """The architecture, in the terms of nuat.models.build, that names and shapes point to."""
    shapes = {name: tuple(tensor.shape) for name, (_, tensor) in entries.items()}
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
