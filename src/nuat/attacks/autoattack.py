"""AutoAttack: an adapter on the official package (Croce and Hein 2020), the reference of the field.

v2, 'standard': APGD-CE, APGD-T, FAB-T, Square. v1, as in the paper's Tables 1a and 2: APGD-CE, APGD-DLR and FAB with
five restarts each, Square. Every attack of the line-up runs on the images that those before it did not break.
"""

import contextlib
import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from nuat.attacks import lineups
from nuat.attacks.base import Attack, refuse_backward
from nuat.core.threat import NORMS, Norm
from nuat.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """The official AutoAttack; needs the ``autoattack`` extra. An image that it does not break is returned unchanged.

    An image is broken if ``model(x_adv).argmax(1) != y``. ``nuat.evaluate`` keeps the verdicts of finished batches, so
    an interrupted run can be resumed.

    Example:
        >>> import torch
        >>> from nuat.attacks import AutoAttack
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 2])
        >>> x_adv = AutoAttack(model, eps=8/255, attacks=("apgd-ce",))(x, y)
        >>> x_adv.shape
        torch.Size([2, 1, 4, 4])
    """

    norms: ClassVar[tuple[Norm, ...]] = NORMS

    version: lineups.Version = "standard"
    """standard: v2, the one to report. v1: for comparison with the paper's Tables 1a and 2. fast: the first two attacks
    of v2, for a quick upper bound."""
    attacks: tuple[str, ...] | None = None
    """Line-up instead of a version: any of apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square. APGD-CE, APGD-DLR and FAB get
    five restarts, unless the line-up is that of v2, whose attacks have one. None: the line-up of ``version``."""
    queries: int | None = None
    """Queries per image of ``square`` in ``attacks``, >= 1. None: 5,000, as in the package."""
    seed: int = 0
    """Seed of the package, which draws from torch's global generator; ``generator`` is refused."""
    batch_size: int = 250
    """Images attacked at once, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version not in get_args(lineups.Version):
            raise InputError(f"version={self.version!r}: expected 'standard' (v2), 'v1' or 'fast'.")
        if self.attacks is not None:
            lineups.check_names(self.attacks)
            if self.version != "standard":
                raise InputError(f"version={self.version!r} has no effect together with attacks; leave one out.")
        if self.queries is not None and (self.attacks is None or "square" not in self.attacks):
            raise InputError("queries has no effect without 'square' in attacks; the versions have 5,000.")
        if self.queries is not None and self.queries < 1:
            raise InputError(f"queries={self.queries}: expected at least 1.")
        if self.generator is not None:
            raise InputError("AutoAttack draws from torch's global generator; give seed instead of generator.")
        if self.batch_size < 1:
            raise InputError(f"batch_size={self.batch_size}: expected at least 1.")
        _official()

    def line_up(self, classes: int) -> tuple[str, ...]:
        """Return the attacks that are run on a model of that many classes, in their order.

        Raises:
            InputError: ``attacks`` names one that is not defined for so few classes.
        """
        if self.attacks is None:
            return lineups.of_version(self.version, classes)
        lineups.check_classes(self.attacks, classes)
        return self.attacks

    def perturb(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the examples [B, C, H, W]."""
        with torch.no_grad():
            classes = self.model(x[:1]).shape[1]
        if "square" in self.line_up(classes):
            lineups.check_square(self.norm, *x.shape[2:])
        devices = [x.device] if x.is_cuda else []
        with torch.random.fork_rng(devices=devices), _frozen(self.model):
            official = self._configured(classes, x.device)
            try:
                x_adv, _ = official.run_standard_evaluation(x, y, batch_size=self.batch_size)
            except Exception as error:
                places = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
                if torch.autograd.__file__ in places:  # the package calls backward passes by itself
                    refuse_backward(error)
                raise
        x_adv = torch.where(torch.isfinite(x_adv), x_adv, x)  # FAB may divide by a gradient of 0
        # the package may overstep by a rounding; a success must lie inside the ball and the box
        return self.threat.bounds(x).project(x_adv.detach())

    def _configured(self, classes: int, device: torch.device) -> Any:
        """Return the official object with the line-up that its number of classes allows."""
        attacks = self.line_up(classes)
        # v2 gives its attacks one restart (in L1 APGD-CE five), any other line-up gives APGD-CE five
        standard = attacks == lineups.STANDARD or self.version == "fast"
        official = _official()(
            self.model,
            attacks=None if standard else list(attacks),
            device=device,
            eps=self.eps,
            norm=self.norm,
            seed=self.seed,
            version="standard" if standard else "custom",
        )
        official.attacks_to_run = list(attacks)
        official.verbose = False
        official.apgd_targeted.n_target_classes = min(official.apgd_targeted.n_target_classes, classes - 1)
        official.fab.n_target_classes = min(9, classes - 1)
        if self.queries is not None:
            official.square.n_queries = self.queries
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
