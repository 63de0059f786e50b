"""Standard training takes the cross-entropy of clean images."""

import copy

import torch
from cases import CLASSES
from oracles import TinyConv, images, labels, step_at

from nuat.defenses import Standard


def test_the_loss_is_the_mean_cross_entropy_of_the_clean_images() -> None:
    model, x, y = TinyConv(dropout=0.0).train(), images(5), labels(5, CLASSES)
    twin = copy.deepcopy(model)
    result = Standard().loss(model, x, y, step_at(), {})
    rows = twin(x).log_softmax(dim=1)
    expected = -sum(rows[image, label] for image, label in enumerate(y.tolist())) / 5
    torch.testing.assert_close(result.loss, expected)
    assert float(result.metrics["clean_loss"]) == float(result.loss.detach())


def test_the_best_epoch_is_the_most_accurate_on_clean_images() -> None:
    assert Standard().judged_by == "clean"
