"""Answers of a model: the class that it predicts on each image, and the probability that it gives to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_DECIMALS = 4
"""Decimals of a probability: enough for bins and means over images, and short in a record."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Predictions of a model on n images, on the host."""

    predicted: Tensor
    """int64 [n]: class with the largest logit."""
    confidence: Tensor
    """float64 [n]: probability of that class (softmax), in [0, 1], to four decimals."""

    @classmethod
    def of(cls, logits: Tensor, temperature: float = 1.0) -> "Answers":
        """Return the answers of ``logits`` [n, N], whose probabilities are those of ``logits / temperature``."""
        probability = (logits.detach().cpu().double() / temperature).softmax(dim=1)
        predicted = logits.detach().argmax(dim=1).cpu()
        confidence = probability.gather(1, predicted[:, None]).squeeze(1)
        return cls(predicted, confidence.round(decimals=_DECIMALS))

    def replaced(self, where: Tensor, others: "Answers") -> "Answers":
        """Return these answers with ``others`` [k] at the k images of ``where``, bool [n]."""
        predicted, confidence = self.predicted.clone(), self.confidence.clone()
        predicted[where], confidence[where] = others.predicted, others.confidence
        return Answers(predicted, confidence)

    def at(self, where: Tensor) -> "Answers":
        """Return the answers on the images ``where``, bool [n] or positions int64 [k]."""
        return Answers(self.predicted[where], self.confidence[where])

    def to_json(self) -> dict[str, list[Any]]:
        """Return JSON values."""
        return {"predicted": self.predicted.tolist(), "confidence": self.confidence.tolist()}

    @classmethod
    def from_json(cls, values: Mapping[str, list[Any]]) -> "Answers":
        """Return the answers that ``to_json`` wrote."""
        return cls(
            torch.tensor(values["predicted"], dtype=torch.int64),
            torch.tensor(values["confidence"], dtype=torch.float64),
        )


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers on several parts of the images as one; no part: on no image."""
    none = Answers.from_json({"predicted": [], "confidence": []})
    together = [none, *parts]
    return Answers(torch.cat([one.predicted for one in together]), torch.cat([one.confidence for one in together]))


def worst(several: Sequence[Answers], labels: Tensor) -> Answers:
    """Return, per image, the worst of several answers: the surest wrong one, else the least sure right one.

    Of equal ones the first counts. ``labels`` is int64 [n].
    """
    severity = torch.stack(
        [torch.where(one.predicted == labels, -one.confidence, 1.0 + one.confidence) for one in several]
    )
    chosen = severity.argmax(dim=0)[None]
    pick = [torch.stack([getattr(one, name) for one in several]) for name in ("predicted", "confidence")]
    return Answers(*(values.gather(0, chosen).squeeze(0) for values in pick))
