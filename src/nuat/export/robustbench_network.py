"""Network of a RobustBench entry: its name, and a Python module that loads the checkpoint."""

import re

from nuat.records.checkpoints import WeightsInfo

NETWORKS = {"resnet18": ("ResNet-18", "RN18"), "resnet34": ("ResNet-34", "RN34"), "resnet50": ("ResNet-50", "RN50")}
"""Our name -> the leaderboard's name, and the abbreviation in its entries' names."""


def architecture(info: WeightsInfo) -> str:
    """Return the network's name on the leaderboard, with its width and activation if they are unusual."""
    model = info.model
    wide = re.fullmatch(r"wrn-(\d+)-(\d+)", model.name)
    name = f"WideResNet-{wide[1]}-{wide[2]}" if wide else NETWORKS.get(model.name, (model.name, ""))[0]
    unusual = [] if model.width is None else [f"width {model.width}"]
    unusual += [] if model.activation == "relu" else [model.activation]
    return f"{name} ({', '.join(unusual)})" if unusual else name


def definition(info: WeightsInfo, key: str) -> str:
    """Return the text of a Python module that defines the network and loads the checkpoint directly.

    ResNets of the usual width come from torchvision. Wide ResNets on 32x32 colour images come from RobustBench, whose
    modules are named as ours. Every other network comes from nuat.
    """
    model, channels, classes = info.model, info.channels, len(info.classes)
    wide = re.fullmatch(r"wrn-(\d+)-(\d+)", model.name)
    usual = model.variant == "plain" and model.activation == "relu"
    if model.name in NETWORKS and model.width is None and usual:
        imports = "from torchvision.models import " + model.name
        build = [f"self.net = {model.name}(weights=None, num_classes={classes})"]
        if (model.stem or ("cifar" if max(info.image_size) <= 64 else "imagenet")) == "cifar":
            build += [
                f"self.net.conv1 = nn.Conv2d({channels}, 64, 3, padding=1, bias=False)",
                "self.net.maxpool = nn.Identity()",
            ]
        elif channels != 3:
            build.append(f"self.net.conv1 = nn.Conv2d({channels}, 64, 7, stride=2, padding=3, bias=False)")
    elif wide and usual and channels == 3 and info.image_size == (32, 32):
        imports = "\nfrom robustbench.model_zoo.architectures.wide_resnet import WideResNet"
        build = [f"self.net = WideResNet(depth={wide[1]}, widen_factor={wide[2]}, num_classes={classes})"]
    else:
        imports = "\nfrom nuat import models\nfrom nuat.config import ModelConfig"
        options = f", options={model.options!r}" if model.options else ""
        variant = "" if model.variant == "plain" else f", variant={model.variant!r}"
        activation = "" if model.activation == "relu" else f", activation={model.activation!r}"
        changes = variant + activation + options
        config = f"ModelConfig(name={model.name!r}, width={model.width}, stem={model.stem!r}{changes})"
        sizes = f"channels={channels}, classes={classes}, image_size={tuple(info.image_size)}"
        build = [f"self.net = models.build({config}, {sizes}).net"]
    normalises = model.mean is not None or model.weights != "none"
    if normalises:
        shape = f"1, {channels}, 1, 1"
        build += [
            "self.normalise = nn.Module()",
            f'self.normalise.register_buffer("mean", torch.zeros({shape}))',
            f'self.normalise.register_buffer("std", torch.ones({shape}))',
        ]
    scaled = "(x - self.normalise.mean) / self.normalise.std" if normalises else "x"
    lines = "\n        ".join(build)
    first = "import torch\nfrom torch import nn\n" if normalises else "from torch import nn\n"
    return f'''"""{architecture(info)} of the checkpoint {key}.pt: images in [0, 1] -> logits of {classes} classes."""

{first}{imports}


class {re.sub(r"[^A-Za-z0-9_]", "_", key)}Net(nn.Module):
    """Takes {key}.pt with load_state_dict; the normalisation, if any, is in the checkpoint."""

    def __init__(self):
        super().__init__()
        {lines}

    def forward(self, x):
        return self.net({scaled})
'''
