"""Networks of the user's own: ``FILE.py:FUNCTION``, where the function returns a ``torch.nn.Module``.

Code runs only as ``nuat.own_code`` says; loading weights runs none.
"""

import torch
from torch import nn

from nuat import own_code
from nuat.attacks import eval_mode
from nuat.config import ModelConfig
from nuat.errors import InputError


def names_function(text: str) -> bool:
    """Return whether ``text`` names a function of the user's own."""
    return own_code.is_named(text)


def load(text: str, device: torch.device) -> nn.Module:
    """Return the module that a function makes, in evaluation mode, on ``device``.

    Raises:
        InputError: there is no such file or function, it fails, or returns something other than a module.
    """
    made = _module(text, own_code.call(text))
    with own_code.blamed(text):  # a tensor may have no data, or the module methods of its own
        return made.to(device).eval()


def build(config: ModelConfig, *, channels: int, classes: int, image_size: tuple[int, int]) -> nn.Module:
    """Return the network of a pinned name, with the weights that its function gives it.

    The function or class gets those of ``channels``, ``classes`` and ``image_size`` that it names.

    Raises:
        InputError: its code may not run, it fails, a setting has no effect, or its logits are not [B, classes].
    """
    name = own_code.plain(config.name)
    for option, given in (("width", config.width), ("stem", config.stem), ("options", config.options or None)):
        if given is not None:
            raise InputError(f"model.{option} has no effect on {name}, which is your own; leave it out.")
    made = own_code.call(config.name, channels=channels, classes=classes, image_size=image_size)
    network = _module(name, made)
    weight = next(network.parameters(), torch.empty(0))
    x = torch.zeros(1, channels, *image_size, device=weight.device, dtype=weight.dtype)
    with own_code.blamed(name), torch.no_grad(), eval_mode(network):
        logits = network(x)
    shape = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if shape != [1, classes]:
        raise InputError(
            f"{name}: its output for an image {list(x.shape)} is {shape}; expected logits [1, {classes}]. Let it take "
            f"channels, classes and image_size, or name its classes if they are not {classes}."
        )
    return network


def _module(name: str, made: object) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise InputError(f"{name} returned a {type(made).__name__}; expected a torch.nn.Module that returns logits.")
    return made
