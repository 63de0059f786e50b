"""Evaluate somebody else's model: the plain CIFAR-10 ResNet-18 among the examples of the AutoAttack package.

    nuat evaluate examples/plain_cifar10.py:make --data.path cifar10.npz --eps 8/255
    nuat analyse confusion examples/plain_cifar10.py:make --data.path cifar10.npz --eps 8/255

``pip install 'nuat[autoattack]'`` brings the examples. Section 5.1 of the paper examines such a model: it was trained
without a defense.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import torch
from torch import nn


def make() -> nn.Module:
    """Return the network: images [B, 3, 32, 32] in [0, 1] to logits [B, 10]."""
    package = importlib.util.find_spec("pyautoattack")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the AutoAttack package is not installed: pip install 'nuat[autoattack]'")
    folder = Path(package.submodule_search_locations[0]) / "examples"
    model: nn.Module = _load(folder / "resnet.py").ResNet18()
    model.load_state_dict(torch.load(folder / "model_test.pt", map_location="cpu", weights_only=True))
    return model.eval()


def _load(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("autoattack_resnet", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


if __name__ == "__main__":
    parameters = sum(p.numel() for p in make().parameters())
    print(f"{parameters:,} parameters; logits of a grey image: {make()(torch.full((1, 3, 32, 32), 0.5)).tolist()}")
