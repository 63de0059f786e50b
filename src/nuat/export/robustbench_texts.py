"""Texts of a RobustBench submission: model_info, the log and the form."""

import json
import re
from dataclasses import dataclass

from nuat.export.robustbench_claim import Claim, fraction, percent
from nuat.export.robustbench_network import NETWORKS, architecture, definition
from nuat.records.checkpoints import WeightsInfo

_BLANK = "(to fill in)"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Publication behind an entry of the leaderboard. Fields that are None are left to be filled in."""

    title: str | None = None
    """Title."""
    link: str | None = None
    """Address."""
    authors: str | None = None
    """Names, separated by commas."""
    venue: str | None = None
    """Conference or journal and year."""


NUAT = Paper(
    title="Towards Efficient and Effective Adversarial Training",
    link="https://openreview.net/forum?id=kuK2VARZGnI",
    authors="Gaurang Sriramanan, Sravanti Addepalli, Arya Baburaj, R. Venkatesh Babu",
    venue="NeurIPS 2021",
)


def make_key(info: WeightsInfo, paper: Paper) -> str:
    """Return <Name><Year><FirstWordOfTheTitle>_<network>, or the recipe's name if the paper is unknown."""
    surname = (paper.authors or "").split(",")[0].split()[-1:]
    year, word = re.search(r"\d{4}", paper.venue or ""), (paper.title or "").split()[:1]
    network = NETWORKS.get(info.model.name, ("", info.model.name.upper()))[1]
    stem = f"{surname[0]}{year[0]}{word[0]}_{network}" if surname and year and word else info.recipe
    key = re.sub(r"[^A-Za-z0-9_-]+", "", stem)
    return key if key[:1].isalpha() else f"Model{key}"


def model_info(info: WeightsInfo, paper: Paper, claim: Claim, *, additional_data: bool) -> str:
    """Return the JSON of model_info/<dataset>/Linf/<key>.json, with null for what the user has to fill in."""
    values = {
        "link": paper.link,
        "name": paper.title,
        "authors": paper.authors,
        "additional_data": additional_data,
        "number_forward_passes": 1,
        "dataset": claim.dataset,
        "venue": paper.venue,
        "architecture": architecture(info),
        "eps": fraction(claim.evaluation.eps),
        "clean_acc": percent(claim.clean.accuracy),
        "reported": percent(claim.robust.accuracy),
        "autoattack_acc": percent(claim.robust.accuracy),
        "footnote": " ".join((_provenance(info, paper), *claim.notes)),
        "unreliable": False,
    }
    return json.dumps(values, indent=2) + "\n"


def log(claim: Claim, checkpoint: str, sha256: str) -> str:
    """Return the log of AutoAttack; evaluation.json holds the verdict on every image."""
    evaluation, settings = claim.evaluation, claim.robust.settings
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items() if version)
    cost = [
        f"{value:,.0f} {unit}"
        for value, unit in (
            (claim.robust.seconds, "s"),
            (claim.robust.forwards, "images forward"),
            (claim.robust.backwards, "images backward"),
        )
        if value is not None
    ]
    lines = [
        f"AutoAttack {settings.get('version', 'standard')}: {', '.join(settings.get('line_up', ()))}",
        f"package: {settings.get('package', 'not recorded')}",
        f"checkpoint: {checkpoint}, SHA-256 {sha256}",
        f"threat: Linf, eps {fraction(evaluation.eps)} = {evaluation.eps!r}",
        f"images: {evaluation.n:,} of the test set of {claim.dataset}, SHA-256 {evaluation.images or 'not recorded'}",
        f"seed {evaluation.seed}, batch size {evaluation.batch_size}, on {evaluation.hardware}; {', '.join(cost)}",
        f"versions: {versions}",
        "",
    ]
    for result in evaluation.results:
        low, high = (percent(end) for end in result.interval)
        lines.append(f"{result.name}: {percent(result.accuracy)} % (95 % interval {low} to {high})")
    return "\n".join([*lines, f"worst case of all: {percent(evaluation.accuracy('worst-case'))} %", ""])


def form(info: WeightsInfo, paper: Paper, claim: Claim, key: str, *, additional_data: bool, sha256: str) -> str:
    """Return the filled form of an issue "New Model(s)" in Markdown, with open tasks at its end."""
    missing = [f"the paper's {name}" for name in ("title", "link", "authors", "venue") if getattr(paper, name) is None]
    notes = "".join(f"- {note}\n" for note in claim.notes) or "- The evaluation keeps to the leaderboard's rules.\n"
    blanks = "".join(f"- fill in {name} (here and in model_info)\n" for name in missing)
    known = "from nuat" not in definition(info, key)
    method = f"AutoAttack v2 (official package), {claim.evaluation.n:,} test images, seed {claim.evaluation.seed}"
    return f"""Title of the issue: [New Model] {key}

# Paper Information

- **Paper Title**: {paper.title or _BLANK}
- **Paper URL**: {paper.link or _BLANK}
- **Paper authors**: {paper.authors or _BLANK}

# Leaderboard Claim(s)

## Model 1

- **Architecture**: {architecture(info)}
- **Threat Model**: Linf
- **eps**: {fraction(claim.evaluation.eps)}
- **Clean accuracy**: {percent(claim.clean.accuracy)}%
- **Robust accuracy**: {percent(claim.robust.accuracy)}%
- **Additional data**: {str(additional_data).lower()}
- **Evaluation method**: {method}; log and verdicts per image in autoattack.txt and evaluation.json
- **Checkpoint and code**: (address of the uploaded {key}.pt, SHA-256 {sha256}, and of {key}.py)

# Model Zoo:

- [ ] I want to add my models to the Model Zoo
- [{" " if known else "x"}] I use an architecture that is **not** included among RobustBench's
- [ ] I agree to release my model(s) under MIT license **OR**
- [ ] I want my models to be released under a custom license, located here: (address)

# Remarks

- {_provenance(info, paper)}
{notes}
<!-- Before sending:
{blanks}- upload the checkpoint and put its address above
- tick what you agree to in the part on the Model Zoo
-->
"""


def _provenance(info: WeightsInfo, paper: Paper) -> str:
    which = "weight average" if info.averaged else "weights"
    recipe = " ".join(info.recipe.split())
    whose = "; neither code nor weights are those of the paper's authors" if paper == NUAT else ""
    began = "" if info.model.weights == "none" else f", begun with the weights {info.model.weights}"
    return f"Trained with nuat {info.nuat_version}, recipe {recipe}: {which} of epoch {info.epoch}{began}{whose}."
