"""Export for RobustBench: a folder with the files of a submission.

| file | content |
|---|---|
| model_info/<dataset>/Linf/<key>.json | the claim, with RobustBench's keys |
| <key>.pt | the weights as a state dict, plain tensors |
| <key>.py | the class of the network that takes them |
| autoattack.txt, evaluation.json | AutoAttack's log, and the verdict on every image |
| submission.md | the filled form of an issue "New Model(s)" |
"""

import hashlib
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nuat.errors import InputError, printable
from nuat.export import robustbench_texts as texts
from nuat.export.robustbench_claim import make_claim
from nuat.export.robustbench_network import architecture, definition
from nuat.export.robustbench_texts import NUAT, Paper
from nuat.export.target import check_free, staged
from nuat.export.trained_model import TrainedModel, logits
from nuat.files import atomic_write, write_text
from nuat.records import checkpoints
from nuat.records.folder import RunFolder
from nuat.records.settings import read_data_config, read_settings

_IMAGES = 16
_OF_THE_PAPER = ("NuAT", "NuAT2", "NuATHybrid")


@dataclass(frozen=True, kw_only=True)
class Submission(Paper):
    """Facts of the entry that a run does not record; the paper of NuAT runs is filled in."""

    key: str | None = None
    """Name of the entry, <Name><Year><FirstWordOfTheTitle>. None: made from the paper and the network."""
    dataset: str | None = None
    """cifar10, cifar100 or imagenet. None: the run's."""
    evaluation: Path | None = None
    """JSON file of nuat evaluate to claim. None: the best suited one in the run's folder."""
    additional_data: bool = False
    """Whether training used images from outside the data set."""

    def __post_init__(self) -> None:
        if self.key is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.key):
            raise InputError(f"robustbench.key={self.key!r}: expected letters, digits, - and _, a letter first.")
        if self.dataset is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", self.dataset):
            raise InputError(f"robustbench.dataset={self.dataset!r}: expected a name such as cifar10.")


def to_robustbench(trained: TrainedModel, target: Path, submission: Submission) -> str:
    """Write the folder ``target`` and return lines on the claim; on any error nothing is kept.

    The checkpoint is loaded again, as plain tensors, and must give the shipped weights' logits bit for bit.

    Raises:
        InputError: there is no evaluation with AutoAttack v2 and clean accuracy, it is of other weights, or ``target``
            exists or cannot be written.
    """
    check_free(target, folder=True)
    info = trained.info
    claim = make_claim(trained, submission.dataset or _dataset(trained), submission.evaluation)
    paper = _paper(trained, submission)
    key = submission.key or texts.make_key(info, paper)
    model = checkpoints.load(trained.weights)
    with staged(target) as folder:
        claims = folder / "model_info" / claim.dataset / "Linf"
        claims.mkdir(parents=True)
        checkpoint = folder / f"{key}.pt"
        memory = io.BytesIO()  # torch.save hides the error of a full disk
        torch.save(model.state_dict(), memory)
        with atomic_write(checkpoint) as file:
            file.write(memory.getvalue())
        again = info.build()
        again.load_state_dict(checkpoints.read_torch(checkpoint))
        x = trained.probe(_IMAGES)
        if not torch.equal(logits(again, x), logits(model, x)):
            raise InputError(
                f"{target}: the checkpoint does not give the logits of {trained.weights}; nothing was kept."
            )
        sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        extra = submission.additional_data
        claimed = texts.model_info(info, paper, claim, additional_data=extra)
        write_text(claims / f"{key}.json", claimed)
        write_text(folder / f"{key}.py", definition(info, key))
        write_text(folder / "autoattack.txt", texts.log(claim, checkpoint.name, sha256))
        claim.evaluation.save(folder / "evaluation.json")
        write_text(folder / "submission.md", texts.form(info, paper, claim, key, additional_data=extra, sha256=sha256))
    found = f"{key}: {architecture(info)}, clean {100 * claim.clean.accuracy:.2f}, AutoAttack "
    clean = "" if claim.clean_file == claim.file else f", clean of the same images from {claim.clean_file.name}"
    source = printable(f"{claim.file}{clean}")
    return "\n".join([f"{found}{100 * claim.robust.accuracy:.2f}, from {source}", *claim.notes])


def _paper(trained: TrainedModel, submission: Submission) -> Paper:
    """Return the paper that the user gave; without one, NuAT's for runs of NuAT defenses."""
    said = {name: getattr(submission, name) for name in ("title", "link", "authors", "venue")}
    if not any(said.values()) and _defense(RunFolder(trained.weights.parent).config) in _OF_THE_PAPER:
        return NUAT
    return replace(Paper(), **said)


def _defense(config: Path) -> str:
    """Return the defense's class in a run's settings, or nothing if there are none."""
    defense = read_settings(config)[1].get("defense") if config.is_file() else None
    return str(defense.get("class", "")) if isinstance(defense, dict) else ""


def _dataset(trained: TrainedModel) -> str:
    """Return the name of the run's data set, or of its file or folder of images."""
    config = RunFolder(trained.weights.parent).config
    if not config.is_file():
        raise InputError(
            f"{trained.weights} is in no run's folder; name its data set, such as --robustbench.dataset cifar10."
        )
    images = read_data_config(config)
    name = images.name if images.path is None else images.path.stem
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)
