"""``nuat evaluate --suite corruptions``: what its options mean, and the evaluation itself."""

import re
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from nuat.data import Dataset
from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.evaluation.corruption_results import CorruptionResults
from nuat.evaluation.corruption_runner import evaluate_corruptions
from nuat.progress import TerminalReporter, progress_bars
from nuat.training.signals import resumable

SUITE = "corruptions"
"""Name of the suite that attacks nothing."""
_OF_ATTACKS = (
    "--eps",
    "--norm",
    "--also",
    "--pgd-alpha",
    "--attacks",
    "--aa",
    "--black-box",
    "--surrogate",
    "--search-precision",
    "--compile",
    "--per-class",
)


class _Asked(Protocol):
    """Options of ``nuat evaluate`` that matter here."""

    @property
    def corruptions(self) -> Path | None: ...
    @property
    def n(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def batch_size(self) -> int | None: ...


def corrupts(arguments: list[str]) -> bool:
    """Return whether the suite among the words of a command is that of the corruptions."""
    words = " ".join(arguments)
    return re.search(rf"(^| )--suite[= ]{SUITE}( |$)", words) is not None


def check_options(arguments: list[str], corruptions: Path | None) -> None:
    """Refuse options without effect: those of attacks with the corruptions, and the corruptions' without them.

    Raises:
        InputError: the first such option.
    """
    given = {word.partition("=")[0].replace("_", "-") for word in arguments}
    if not corrupts(arguments):
        if corruptions is not None:
            raise InputError(f"--corruptions has no effect without --suite {SUITE}; give it, or leave the folder out.")
        return
    useless = [*_OF_ATTACKS, *(["--seed"] if corruptions is not None else [])]
    option = next((option for option in useless if option in given), None)
    if option == "--seed":
        raise InputError("--seed has no effect on corrupted images from files; leave it out.")
    if option is not None:
        raise InputError(f"{option} has no effect with --suite {SUITE}, which attacks nothing; leave it out.")


def corrupt_model(
    model: nn.Module,
    dataset: Dataset,
    asked: _Asked,
    state: Path | None,
    reporter: TerminalReporter,
    *,
    again: str,
    order: tuple[int, ...] | None,
    world: World,
) -> CorruptionResults:
    """Evaluate a model on corrupted test images, with progress.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N].
        dataset: images; its test part is corrupted.
        asked: settings.
        state: file of finished batches. None: an interruption loses them.
        reporter: terminal.
        again: command that resumes after an interruption.
        order: the logit of each class of the images, see ``nuat.evaluate``.
        world: processes that share the batches.
    """
    model.to(memory_format=torch.channels_last)
    with resumable(state, again), progress_bars(reporter) as progress:
        return evaluate_corruptions(
            model,
            dataset,
            corruptions=asked.corruptions,
            n=asked.n,
            seed=asked.seed,
            batch_size=asked.batch_size,
            class_map=order,
            warn=lambda warning: reporter.message(f"warning: {warning}", style="bold yellow"),
            state_path=state,
            progress=progress,
            world=world,
        )
