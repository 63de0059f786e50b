"""The settings of a run: frozen keyword-only dataclasses, every field with its unit, range and meaning.

A recipe (``nuat.recipes``) returns a complete ``TrainConfig``; the command line changes single fields of it.
Each class checks its own fields when it is made and raises ``InputError`` on the first that cannot be.
"""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from nuat.defenses.base import Defense
from nuat.errors import InputError
from nuat.schedules import OneCycle, Schedule
from nuat.threat import Norm, check_radius


def _check_seed(name: str, value: int) -> None:
    if not 0 <= value < 2**63:
        raise InputError(f"{name}={value}: expected a seed from 0 to 2**63 - 1.")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise InputError(f"{name}={value}: expected at least {least:g}.")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from, how they are split and augmented."""

    name: Literal["mnist-sample", "mnist", "cifar10", "cifar100"] = "mnist-sample"
    """Named source, used when no path is given."""
    path: Path | None = None
    """Used instead: an .npz (x_train, y_train, x_test, y_test), an image folder (train/<class>/*.png), or a folder of
    tar shards (train/NAME-000000.tar)."""
    download: bool = True
    """Whether a named source that is not in the cache may be downloaded."""
    cache: Path | None = None
    """Folder of downloads and decoded folders; none: $NUAT_CACHE, else .cache/nuat in the home folder."""
    loading: Literal["memory", "stream"] = "memory"
    """memory: decode all images once, into memory. stream: decode the training images of a folder or of shards anew in
    each epoch, in worker processes while training; random crops then come out of the original images."""
    workers: int | None = None
    """Streaming: processes that decode, >= 0; none: the processor's cores less one, at most 16; 0: the training
    process itself."""
    on_bad: Literal["refuse", "skip"] = "refuse"
    """Image folders and shards: what files that cannot be decoded do at the start: end the run, or be left out."""
    image_size: int | None = None
    """Image folders and shards: side [pixels] that images are resized and centre-cropped to; none: all are of one
    size."""
    eval_resize: int | None = None
    """Images of evaluations: the shorter side [pixels] is resized to this and the centre of image_size cut out, as on
    ImageNet with 256 and 224; none: it is resized to image_size."""
    subset: Literal["imagenet100"] | None = None
    """Image folders: take only these classes, imagenet100 for the 100 of ImageNet that the GAT authors chose; none:
    all."""
    validation: int = 500
    """Training images held out, class-balanced, to choose the best epoch; >= 0. From an image folder that has a val
    part beside test, this many of its images."""
    split_seed: int = 0
    """Seed of that split, apart from the run's seed so that runs of several seeds share one split."""
    train_limit: int | None = None
    """Use only this many training images, class-balanced, after the split; none: all."""
    crop_padding: int = 0
    """Random crop: zeros [pixels] padded on each side; 0: no crop."""
    crop_scale: float | None = None
    """Random resized crop: least fraction of the area that is cut out, in (0, 1); none: off. ImageNet's is 0.08."""
    flip: bool = False
    """Random horizontal flip."""
    progressive_sizes: tuple[int, ...] = ()
    """Side [pixels] of the training images in each phase of the run, as FBF's 128,224,288; empty: image_size
    throughout. Evaluations stay at image_size."""
    progressive_from: tuple[float, ...] = ()
    """Fraction of the run at which each of these phases begins, in [0, 1), increasing, the first 0."""

    def size_at(self, epoch: int, epochs: int) -> int | None:
        """Return the side [pixels] of the training images in epoch ``epoch`` (from 0) of ``epochs``; none: image_size.

        A phase begins with the first epoch of which no part lies before its fraction of the run.
        """
        phases = zip(self.progressive_sizes, self.progressive_from, strict=True)
        # 0.1 * 30 is a little more than 3 in floating point
        begun = [size for size, begins in phases if begins * epochs <= epoch + 1e-6]
        return begun[-1] if begun else None

    def __post_init__(self) -> None:
        _at_least("data.validation", self.validation, 0)
        _check_seed("data.split_seed", self.split_seed)
        _at_least("data.crop_padding", self.crop_padding, 0)
        if self.crop_scale is not None:
            if not 0.0 < self.crop_scale < 1.0:
                raise InputError(f"data.crop_scale={self.crop_scale:g}: expected a fraction of the area in (0, 1).")
            if self.crop_padding > 0:
                raise InputError(
                    f"data.crop_scale={self.crop_scale:g} and data.crop_padding={self.crop_padding}: one crop or the "
                    "other; set data.crop_scale to none or data.crop_padding to 0."
                )
        if self.train_limit is not None:
            _at_least("data.train_limit", self.train_limit, 2)
        if self.image_size is not None:
            _at_least("data.image_size", self.image_size, 1)
        self._check_reading()
        self._check_phases()

    def _check_reading(self) -> None:
        """Refuse what images of files are read by where it cannot be or has no effect."""
        files = {"loading": "stream", "on_bad": "skip", "subset": "imagenet100"}
        for name, value in files.items():
            if self.path is None and getattr(self, name) == value:
                raise InputError(
                    f"data.{name}={value} has no effect on {self.name}: give the folder of the images as data.path."
                )
        if self.loading == "stream" and self.image_size is None:
            raise InputError("data.loading=stream needs the side of the images: give data.image_size, such as 224.")
        if self.workers is not None:
            _at_least("data.workers", self.workers, 0)
            if self.loading == "memory":
                raise InputError(
                    f"data.workers={self.workers} has no effect on data.loading=memory; leave it out or set stream."
                )
        if self.eval_resize is not None and (self.image_size is None or self.eval_resize < self.image_size):
            raise InputError(
                f"data.eval_resize={self.eval_resize}, data.image_size={self.image_size}: image_size is cut out of the "
                "image of eval_resize, so give both, the latter at least as large."
            )

    def _check_phases(self) -> None:
        """Refuse phases of the image size that cannot be."""
        sizes, starts = self.progressive_sizes, self.progressive_from
        if len(sizes) != len(starts):
            raise InputError(
                f"data.progressive_sizes has {len(sizes)} values and data.progressive_from {len(starts)}: give both of "
                "each phase."
            )
        for size in sizes:
            _at_least("data.progressive_sizes", size, 1)
        if starts and (starts[0] != 0 or not all(a < b for a, b in itertools.pairwise((*starts, 1.0)))):
            raise InputError(
                f"data.progressive_from={','.join(f'{f:g}' for f in starts)}: expected increasing fractions of the "
                "run, the first 0, the last below 1, such as 0,0.4,0.8."
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, and the normalisation that is its first layer."""

    name: str = "small-cnn"
    """small-cnn, mnist-cnn, resnet18, resnet34, resnet50, wrn-<depth>-<k> (wrn-34-10), torchvision:<name>
    (torchvision:resnet50) or timm:<name> (timm:convnext_tiny), the last with timm installed."""
    width: int | None = None
    """Channels of the first stage; none: the architecture's own (small-cnn 16, mnist-cnn 32, resnet 64)."""
    stem: Literal["cifar", "imagenet"] | None = None
    """ResNets: 3x3 stride 1 without pooling, or 7x7 stride 2 with it; none: cifar up to 64 pixels."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean subtracted inside the model; none: no normalisation (as in the paper)."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation divided by inside the model, > 0; given with mean."""
    weights: str = "none"
    """Weights that a run begins with. none: random ones. pretrained: those that torchvision or timm offers, downloaded.
    Otherwise a run's folder (its best weights), a .safetensors or a .pt file of this network. Their normalisation comes
    with them, unless mean and std are given; a head of another number of classes is left out."""
    options: tuple[str, ...] = ()
    """torchvision and timm networks: arguments of their constructors, NAME=VALUE: patch_size=4,depth=6. Values are
    numbers, true, false, words, or numbers in a row with colons: depths=1:1:3:1."""

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
            _at_least("model.width", self.width, 1)


@dataclass(frozen=True, kw_only=True)
class ThreatConfig:
    """The perturbations that the model must withstand: a ball in pixels of [0, 1]."""

    norm: Norm = "Linf"
    """Linf: each pixel's change is bounded. L2: that of the whole image; for evaluations alone."""
    eps: float = 8 / 255
    """Radius of the ball; Linf: in (0, 1], written 8/255 or 0.031; L2: > 0, such as 0.5."""
    pgd_alpha: float = 2 / 255
    """Step of the evaluation's PGD, in the units of eps."""

    def __post_init__(self) -> None:
        check_radius("threat.eps", self.eps, self.norm)
        check_radius("threat.pgd_alpha", self.pgd_alpha, self.norm)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Stochastic gradient descent with momentum, or Adam."""

    name: Literal["sgd", "adam"] = "sgd"
    """Adam is FBF's choice on MNIST."""
    lr: Schedule = field(default_factory=OneCycle)
    """Learning rate over the run."""
    momentum: float = 0.9
    """In [0, 1); of Adam, the decay of its first moment (that of the second is 0.999)."""
    weight_decay: float = 5e-4
    """L2 weight on every parameter, >= 0."""
    nesterov: bool = False
    """Nesterov's momentum."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise InputError(f"optimizer.momentum={self.momentum:g}: expected a value in [0, 1).")
        _at_least("optimizer.weight_decay", self.weight_decay, 0.0)
        if self.nesterov and self.name == "adam":
            raise InputError("optimizer.nesterov has no effect on Adam; leave it out or set optimizer.name=sgd.")
        if self.nesterov and self.momentum == 0.0:
            raise InputError("optimizer.nesterov has no effect without momentum; set optimizer.momentum > 0.")


@dataclass(frozen=True, kw_only=True)
class AveragingConfig:
    """Exponential average of the weights over the steps (-WA, section 5.4)."""

    tau: float | None = None
    """Decay per step, in [0, 1); none: no average. The paper's runs use 0.9998."""
    warmup: bool = False
    """Use min(tau, (1 + step) / (10 + step)), so that a short run is not held at its first weights."""

    def __post_init__(self) -> None:
        if self.tau is not None and not 0.0 <= self.tau < 1.0:
            raise InputError(f"averaging.tau={self.tau:g}: expected a decay in [0, 1).")
        if self.tau is None and self.warmup:
            raise InputError("averaging.warmup has no effect without averaging.tau; give a tau such as 0.9998.")


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """What is watched during the run, and what an alarm does."""

    overfitting_gap: float = 0.25
    """Catastrophic overfitting: alarm when validation accuracy under FGSM exceeds that under PGD by this."""
    on_overfitting: Literal["warn", "stop"] = "warn"
    """What that alarm does."""
    collapse_margin: float = 0.02
    """Collapse to a constant: alarm when an epoch's mean clean loss is above (1 - margin) * log(classes)."""
    collapse_patience: int = 3
    """Epochs in a row of that before the alarm, >= 1 (a slow first epoch is no collapse)."""
    on_collapse: Literal["warn", "stop"] = "warn"
    """What that alarm does."""
    on_nonfinite: Literal["skip", "stop"] = "stop"
    """Non-finite loss or logits: skip that update, or end the run with the last good checkpoint."""

    def __post_init__(self) -> None:
        if not 0.0 < self.overfitting_gap <= 1.0:
            raise InputError(f"monitors.overfitting_gap={self.overfitting_gap:g}: expected an accuracy gap in (0, 1].")
        if not 0.0 <= self.collapse_margin < 1.0:
            raise InputError(f"monitors.collapse_margin={self.collapse_margin:g}: expected a value in [0, 1).")
        _at_least("monitors.collapse_patience", self.collapse_patience, 1)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The evaluation on test images that follows training."""

    attacks: tuple[str, ...] = ("clean", "pgd-100", "gama-100")
    """Attacks in order: clean, fgsm, rfgsm, pgd-<steps>, gama-<steps>, autoattack, autoattack-v1."""
    n: int | None = 1000
    """Test images, class-balanced; none: all."""
    batch_size: int = 250
    """Images a batch, >= 1; it changes the memory needed, not the result of any attack but the random draws."""

    def __post_init__(self) -> None:
        if self.n is not None:
            _at_least("evaluation.n", self.n, 1)
        _at_least("evaluation.batch_size", self.batch_size, 1)


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """What several devices share. With one device these settings have no effect."""

    statistics: Literal["global", "device"] = "global"
    """global: the loss is that of the whole batch, as on one device: the nuclear norm is of the logits of all devices'
    images together. device: each takes the loss of its own images; lambda then means what it does at that batch."""
    batch_norm: Literal["device", "sync"] = "device"
    """device: each device normalises by its own images' statistics; running statistics are averaged after each update.
    sync: by those of all devices' images."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a run depends on."""

    defense: Defense
    """How a batch becomes a loss."""
    data: DataConfig = field(default_factory=DataConfig)
    """Images, split and augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Network."""
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    """Perturbation set."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimizer and learning rate."""
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    """Weight averaging."""
    monitors: MonitorConfig = field(default_factory=MonitorConfig)
    """Alarms."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Evaluation after training."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Training on several devices."""
    epochs: int = 30
    """Passes over the training images, >= 1."""
    batch_size: int = 64
    """Images a batch, on all devices together, >= 2."""
    accumulate: int = 1
    """Batches whose gradients are averaged in one update, >= 1. Batch norm and the nuclear norm see a batch at a time,
    so lambda keeps its meaning."""
    eps_warmup: float = 0.0
    """Fraction of the run over which training's eps grows linearly from 0, step by step, in [0, 1). Validation and
    evaluation take threat.eps throughout. From scratch at a large eps (MNIST's 0.3), attacks of many steps may
    otherwise never let the model leave the constant."""
    seed: int = 0
    """Seed of the weights, the order, the augmentation and the noise."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:<index>."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast in training. The weights, the nuclear norm and every evaluation stay fp32."""
    channels_last: bool = True
    """Store images and convolution weights with the channels innermost (faster; the same function)."""
    compile: bool = False
    """torch.compile of the network's passes, on one device. It takes tens of seconds to minutes (recorded as
    compile_seconds), which a short run does not earn back; on a CPU it was slower than without (benchmarks/)."""
    checkpoint_every: int = 1
    """Epochs between checkpoints of the full state, >= 1."""
    checkpoint_batches: int | None = None
    """Also a checkpoint after every so many batches of an epoch, >= 1; none: at the ends of epochs alone."""

    def __post_init__(self) -> None:
        _at_least("epochs", self.epochs, 1)
        if self.batch_size < 2:
            raise InputError(
                f"batch_size={self.batch_size}: batch norm in training and the joint statistics of the nuclear norm "
                "need at least 2 images a batch."
            )
        _at_least("accumulate", self.accumulate, 1)
        if self.accumulate > 1 and self.defense.updates_per_batch > 1:
            raise InputError(
                f"accumulate={self.accumulate}: {type(self.defense).__name__} updates the weights "
                f"{self.defense.updates_per_batch} times with each batch; set accumulate to 1."
            )
        _at_least("checkpoint_every", self.checkpoint_every, 1)
        if self.checkpoint_batches is not None:
            _at_least("checkpoint_batches", self.checkpoint_batches, 1)
        if self.threat.norm != "Linf":
            raise InputError(f"threat.norm={self.threat.norm}: the defenses train for Linf; evaluate with --norm L2.")
        if not 0.0 <= self.eps_warmup < 1.0:
            raise InputError(f"eps_warmup={self.eps_warmup:g}: expected a fraction of the run in [0, 1).")
        if self.eps_warmup > 0 and self.defense.judged_by == "clean":
            raise InputError("eps_warmup has no effect on a defense that does not attack; leave it out.")
        if self.data.validation == 0 and self.monitors.on_overfitting == "stop":
            raise InputError(
                "monitors.on_overfitting=stop has no effect without validation images: set data.validation."
            )
        _check_seed("seed", self.seed)
