"""AutoAttack: an adapter on the official package (Croce and Hein 2020), the reference of the field.

v2, 'standard': APGD-CE, APGD-T, FAB-T, Square. v1, as in the paper's Tables 1a and 2: APGD-CE, APGD-DLR and FAB with
five restarts each, Square. Every attack of the line-up runs on the images that those before it did not break.
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nuat.attacks.base import Attack
from nuat.errors import InputError

_STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
_V1 = ("apgd-ce", "apgd-dlr", "fab", "square")


def line_up(version: Literal["standard", "v1"], classes: int) -> tuple[str, ...]:
    """Return the attacks that are run on a model of that many classes.

    DLR needs three classes and targeted DLR four, so with fewer another line-up takes their place.
    """
    if classes < 4:
        return ("apgd-ce", *(("apgd-dlr",) if classes == 3 else ()), "fab-t", "square")
    return _STANDARD if version == "standard" else _V1


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """The official AutoAttack; needs the ``autoattack`` extra. An image that nothing broke comes back as it was.

    The verdict on each image is ``model(x_adv).argmax(1) == y``. A run that is cut off resumes in ``evaluate``, which
    keeps the verdicts of each finished batch.
    """

    version: Literal["standard", "v1"] = "standard"
    """standard is v2, the one to report; v1 compares with the paper's Tables 1a and 2."""
    seed: int = 0
    """Seed of the package, which draws from torch's global generator (``generator`` is refused)."""
    batch_size: int = 250
    """Images attacked at once, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version not in ("standard", "v1"):
            raise InputError(f"version={self.version!r}: expected 'standard' (v2) or 'v1'.")
        if self.generator is not None:
            raise InputError("AutoAttack draws from torch's global generator; give seed instead of generator.")
        if self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size}: expected at least 1.")
        _official()

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the examples [B, C, H, W]."""
        with torch.no_grad():
            classes = self.model(x[:1]).shape[1]
        devices = [x.device] if x.is_cuda else []
        with torch.random.fork_rng(devices=devices), _frozen(self.model):
            x_adv, _ = self._configured(classes, x.device).run_standard_evaluation(x, y, batch_size=self.batch_size)
        # the package may overstep by a rounding; a success is only one inside the ball and the box
        return self.threat.bounds(x).project(x_adv.detach())

    def _configured(self, classes: int, device: torch.device) -> Any:
        """Return the official object with the line-up that its number of classes allows."""
        attacks = line_up(self.version, classes)
        standard = attacks == _STANDARD
        official = _official()(
            self.model,
            attacks=None if standard else list(attacks),
            device=device,
            eps=self.eps,
            seed=self.seed,
            version="standard" if standard else "custom",
        )
        official.verbose = False
        official.apgd_targeted.n_target_classes = min(9, classes - 1)
        official.fab.n_target_classes = min(9, classes - 1)
        return official


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Keep gradients out of the weights: FAB calls ``backward``, which would leave a ``.grad`` in each."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _official() -> Any:
    """Return the package's class, or say how to install it."""
    try:
        from pyautoattack import AutoAttack as Official
    except ImportError:
        raise InputError(
            "AutoAttack needs the official package; install it with: pip install 'nuat[autoattack]'"
        ) from None
    # the package's advice would reach the terminal in the middle of a table or a progress bar
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    return Official
