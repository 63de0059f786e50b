"""The settings of a network: which of them cannot be together."""

import pytest

from nuat.config import ModelConfig
from nuat.errors import InputError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mean": (0.5,)}, "model.mean and model.std go together"),
        ({"std": (0.5,)}, "model.mean and model.std go together"),
        ({"mean": (0.5,), "std": (0.0,)}, "every value must be > 0"),
        ({"width": 0}, "model.width=0"),
        ({"weights": "pretrained"}, "nuat has no weights of small-cnn"),
    ],
)
def test_what_cannot_be_together_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ModelConfig(**settings)
