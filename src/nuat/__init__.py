"""nuat: train image classifiers that withstand adversarial perturbations at single-step cost.

For example::

    import nuat

    model = nuat.load("quickstart")          # or the folder of a run, or a weights file
    model.predict("photo.jpg")               # classes with probabilities
    run = nuat.run(nuat.recipes.find("quickstart")(), out=Path("runs/mine"))
    found = nuat.evaluate(run.model(), "mnist-sample", eps=0.3, attacks=["clean", "pgd-100"])
    print(found)                             # the table; found.accuracy("pgd-100") is a number
    x_adv = nuat.attacks.PGD(model, eps=0.3)(x, y)

Packages: ``attacks``, ``config`` (settings), ``data``, ``defenses``, ``models``, ``own_code`` (names in files of your
own), ``recipes``. On the command line: ``nuat --help``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuat import attacks, config, data, defenses, models, own_code, recipes
    from nuat.core.nuclear import nuclear_norm
    from nuat.evaluation.evaluate import evaluate
    from nuat.records.checkpoints import load
    from nuat.training.run import run
    from nuat.training.trackers import Tracker

    __version__: str

__all__ = [
    "Tracker",
    "__version__",
    "attacks",
    "config",
    "data",
    "defenses",
    "evaluate",
    "load",
    "models",
    "nuclear_norm",
    "own_code",
    "recipes",
    "run",
]

_HOME = {
    "load": "records.checkpoints",
    "evaluate": "evaluation.evaluate",
    "nuclear_norm": "core.nuclear",
    "run": "training.run",
    "Tracker": "training.trackers",
}
"""Public functions and classes, and the modules that define them."""


def __getattr__(name: str) -> Any:
    # imported on first use: ``import nuat`` and ``nuat --help`` do not wait for torch
    if name == "__version__":
        from importlib import metadata

        return metadata.version("nuat")
    if name in _HOME:
        return getattr(import_module(f"nuat.{_HOME[name]}"), name)
    if name in __all__:
        return import_module(f"nuat.{name}")
    raise AttributeError(f"module 'nuat' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
