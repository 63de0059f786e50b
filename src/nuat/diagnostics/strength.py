"""Check that attacks rank as they do where gradients tell the truth.

Sources: Athalye et al. 2018, section 3.1; Carlini et al. 2019.

Every check compares two attacks, or two groups of attacks, on the same images. A group breaks an image if any of its
members does.
"""

from nuat.attacks.lineups import STANDARD
from nuat.diagnostics.ranking import Comparison

WHITE_BOX = ("pgd-500", "gama-100", "apgd-ce", "apgd-t", "fab-t")
OTHERS = (
    "targeted-100",
    "multi-targeted-100",
    "adaptive-100",
    "adaptive-same-class-100",
    "adaptive-eot-100",
    "adaptive-nuclear-100",
    "adaptive-logit-100",
)
"""Attacks that AutoAttack lacks: with a target, and with knowledge of the defense."""
RESTARTS = "pgd-100 from 3 starts"
TRANSFER = "transfer from a surrogate"
"""Like RESTARTS, an attack that the examination adds to those of the catalogue; their names have a space."""


COMPARISONS = (
    Comparison(
        check="iterative attacks beat single-step ones",
        quick=True,
        weaker=("fgsm",),
        stronger=("pgd-100",),
        asks="FGSM breaks no more images than PGD-100",
        passes="one step finds no more than many, as it should.",
        fails="one step finds what many do not: the gradient misleads the longer attack.",
    ),
    Comparison(
        check="more steps do not help",
        quick=True,
        weaker=("pgd-500",),
        stronger=("pgd-100",),
        allowed=0.003,
        asks="PGD-500 lowers PGD-100's accuracy by at most 0.3 points",
        passes="PGD has converged at 100 steps.",
        fails="PGD has not converged at 100 steps: report more, and do not believe attacks of few steps.",
    ),
    Comparison(
        check="more restarts do not help",
        quick=True,
        weaker=(RESTARTS,),
        stronger=("pgd-100",),
        together=True,
        allowed=0.01,
        asks="two more random starts lower PGD-100's accuracy by at most 1 point (ours)",
        passes="where PGD starts does not matter much.",
        fails="the result hangs on where PGD starts: the loss surface is rugged.",
    ),
    Comparison(
        check="Square is weaker than white-box attacks",
        weaker=("square",),
        stronger=WHITE_BOX,
        asks="Square breaks no more images than the white-box attacks together",
        passes="gradients help an attacker, as they should.",
        fails="queries alone break more than gradients: the gradients are masked.",
    ),
    Comparison(
        check="Square finds nothing new",
        weaker=("square",),
        stronger=WHITE_BOX,
        together=True,
        allowed=0.001,
        asks="Square lowers the white-box result by at most 0.1 points",
        passes="what gradients do not find, queries do not find either.",
        fails="Square breaks images that no white-box attack breaks: gradients are masked around them.",
    ),
    Comparison(
        check="transfer is weaker than white-box attacks",
        quick=True,
        weaker=(TRANSFER,),
        stronger=WHITE_BOX,
        asks="examples made on a surrogate break no more images than the white-box attacks together",
        passes="the model's own gradients are the better guide, as they should be.",
        fails="another model's gradients break more than the model's own: its gradients are masked.",
    ),
    Comparison(
        check="transfer finds nothing new",
        weaker=(TRANSFER,),
        stronger=WHITE_BOX,
        together=True,
        allowed=0.001,
        asks="examples made on a surrogate lower the white-box result by at most 0.1 points (ours, as for Square)",
        passes="what the model's own gradients do not find, another's do not find either.",
        fails="another model's gradients break images that no white-box attack breaks: gradients are masked there.",
    ),
    Comparison(
        check="random noise is weaker than any attack",
        weaker=("noise-10000",),
        stronger=WHITE_BOX,
        together=True,
        allowed=0.0,
        asks="10,000 random perturbations break nothing that the white-box attacks withstand",
        passes="no random search finds what the gradients miss.",
        fails="random perturbations break images that gradients do not: the attacks stand still there.",
    ),
    Comparison(
        check="adaptive attacks do not beat AutoAttack",
        weaker=OTHERS,
        stronger=STANDARD,
        together=True,
        allowed=0.002,
        asks="targeted attacks, and those that know NuAT, lower AutoAttack's result by at most 0.2 points",
        passes="knowing the defense gives an attacker nothing.",
        fails="an attack made for this model beats AutoAttack: report the worst case of both.",
    ),
    Comparison(
        check="PGD-50 is not far from AutoAttack",
        weaker=STANDARD,
        stronger=("pgd-50",),
        allowed=0.10,
        matters=0.05,
        asks="AutoAttack lowers PGD-50's accuracy by at most 10 points (ours)",
        passes="plain PGD already tells most of the truth.",
        fails="PGD flatters the model: its gradients mislead plain attacks; report AutoAttack.",
    ),
)
"""The checks, in the order of the report."""

ATTACKS = tuple(
    dict.fromkeys(("clean", *(name for c in COMPARISONS for name in (*c.weaker, *c.stronger) if " " not in name)))
)
"""The attacks that the checks need, each once."""

QUICK_PASSES = 510
"""Passes per image up to which an attack is part of a quick examination: PGD-500, but not AutoAttack's or Square."""
