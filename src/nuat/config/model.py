"""Settings of the network."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from nuat.core.ranges import at_least
from nuat.errors import InputError

Activation = Literal["relu", "silu", "gelu"]
"""Activations that the networks of this package can have."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network, and the normalisation that is its first layer."""

    name: str = "small-cnn"
    """small-cnn, mnist-cnn, resnet18, resnet34, resnet50, wrn-<depth>-<k> (wrn-34-10), torchvision:<name>
    (torchvision:resnet50), timm:<name> (timm:convnext_tiny; needs timm), or FILE.py:FUNCTION, one of your own."""
    width: int | None = None
    """Channels of the first stage. None: the architecture's own (small-cnn 16, mnist-cnn 32, resnet 64)."""
    stem: Literal["cifar", "imagenet"] | None = None
    """ResNets: 3x3 stride 1 without pooling, or 7x7 stride 2 with it. None: cifar up to 64 pixels."""
    variant: Literal["plain", "nuat"] = "plain"
    """plain: the published network. nuat: that of the paper's authors (resnet18, resnet34 and wrn-<depth>-<k>), which
    has another ReLU, or biases and other shortcuts; ``nuat.models.authors`` has the list."""
    activation: Activation = "relu"
    """relu, or the smooth silu or gelu; of the published networks that nuat brings, not of the authors' variants."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean subtracted inside the model. None: no normalisation, as in the paper."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation that the model divides by, > 0; given with mean."""
    weights: str = "none"
    """Initial weights. none: random. pretrained: downloaded from torchvision or timm. Otherwise a run's folder (best
    weights), or a .safetensors or .pt file of this network. The normalisation comes with pretrained weights and with
    files that hold one; for other files give mean and std. A head for another number of classes is left out."""
    options: tuple[str, ...] = ()
    """Arguments of the constructors of torchvision and timm networks, NAME=VALUE, such as patch_size=4,depth=6. A value
    is a number, true, false, a word, or several numbers with colons between them: depths=1:1:3:1."""

    def __post_init__(self) -> None:
        if self.weights == "pretrained" and not self.name.startswith(("timm:", "torchvision:")):
            raise InputError(
                f"model.weights=pretrained: nuat has no weights of {self.name} to download; give none, or the path of "
                "a run or of a weights file."
            )
        if (self.mean is None) != (self.std is None):
            raise InputError("model.mean and model.std go together: give both or neither.")
        if self.std is not None and not all(s > 0 for s in self.std):
            raise InputError(f"model.std={self.std}: every value must be > 0.")
        if self.width is not None:
            at_least("model.width", self.width, 1)


@dataclass(frozen=True, kw_only=True)
class ForeignNetwork:
    """Network and normalisation of a model that nuat did not train."""

    name: Annotated[str | None, tyro.conf.arg(name="model")] = None
    """Network of a file of weights alone: timm:NAME, torchvision:NAME, resnet18, wrn-34-10, ... as in 'nuat train', or
    FILE.py:NAME, the class or function that builds it. torchscript: run a TorchScript file, which is a program. None:
    the file says, or a function builds it."""
    mean: tuple[float, ...] | None = None
    """Mean that the model subtracts from pixels in [0, 1]: one value, or one for each channel. None: the file's own, or
    no normalisation."""
    std: tuple[float, ...] | None = None
    """Standard deviation that it divides by, > 0, in the same form. None: as for the mean."""
    variant: Annotated[Literal["plain", "nuat"], tyro.conf.arg(name="model.variant")] = "plain"
    """nuat: the network of the paper's authors, see 'nuat train'."""
    activation: Annotated[Activation, tyro.conf.arg(name="model.activation")] = "relu"
    """Activation of a network that nuat brings; weights do not show it."""
    options: Annotated[tuple[str, ...], tyro.conf.arg(name="model.options")] = ()
    """Arguments of the constructors of timm and torchvision networks, NAME=VALUE."""

    @property
    def names_network(self) -> bool:
        """Whether an option that says which network it is was given."""
        return self.name is not None or self.variant != "plain" or self.activation != "relu"

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise InputError("--mean and --std go together: give both or neither.")
        if self.std is not None and not all(s > 0 for s in self.std):
            raise InputError(f"--std {','.join(f'{s:g}' for s in self.std)}: every value must be > 0.")


@dataclass(frozen=True, kw_only=True)
class ForeignClassifier(ForeignNetwork):
    """Network, normalisation, images and classes of a model that nuat did not train."""

    image_size: int | None = None
    """Side of its images [pixels]. None: that of the library's weights or of the Hugging Face folder."""
    classes: tuple[str, ...] = ()
    """Names of its classes, in the order of its logits; or a file of these names, one a line. None given: those of the
    Hugging Face folder, else numbers."""
