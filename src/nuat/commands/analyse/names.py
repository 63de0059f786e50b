"""What a figure calls a model, where the user does not say."""

import json
from pathlib import Path

from nuat.records import checkpoints

_MOST_OF_A_RECIPE = 40


def model_name(weights: Path | None, word: Path) -> str:
    """Return the method's label in its campaign, else the recipe in the weights, else the words that named it."""
    if weights is None:
        return word.name
    row = weights.parent / "row.json"
    if row.is_file():
        try:
            label = json.loads(row.read_text(encoding="utf-8")).get("label")
        except (ValueError, AttributeError):
            label = None
        if isinstance(label, str) and label:
            return label
    return checkpoints.read_info(weights).recipe[:_MOST_OF_A_RECIPE] or word.name
