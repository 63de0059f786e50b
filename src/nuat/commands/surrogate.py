"""The surrogate that the attack ``transfer`` of ``nuat evaluate`` follows."""

import torch
from torch import nn

from nuat import data, hardware
from nuat.attacks import eval_mode
from nuat.commands.subject import LoadedModel, load_model
from nuat.config import ThreatConfig
from nuat.data import to_float
from nuat.diagnostics import substitute
from nuat.evaluation.guarded_model import guarded
from nuat.evaluation.inspection import check_logits
from nuat.progress import TerminalReporter, progress_bars


def surrogate_of(
    loaded: LoadedModel,
    dataset: data.Dataset,
    device: torch.device,
    *,
    named: str | None,
    threat: ThreatConfig,
    seed: int,
    reporter: TerminalReporter,
) -> nn.Module | None:
    """Return the model that the user names, or a network trained on the answers of the attacked one.

    None: there are no images to train it on, which the reporter is told.
    """
    if named is not None:
        other = load_model(named, dataset, device)
        return guarded(other.model, other.order)
    model = guarded(loaded.model, loaded.order)
    x = to_float(dataset.test.select(torch.arange(1)).images).to(device)
    with eval_mode(model), hardware.full_precision(), progress_bars(reporter) as progress:
        classes = check_logits(model, x, len(dataset.classes)).shape[1]
        learnt = substitute.learn(model, dataset.train, threat=threat, classes=classes, seed=seed, progress=progress)
    if learnt is None:
        reporter.message("no training images to train a surrogate on, so transfer is left out; give --surrogate MODEL")
    return None if learnt is None else learnt.model
