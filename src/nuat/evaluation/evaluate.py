"""Evaluation: a model and attacks to a verdict on each image. It knows nothing of defenses.

Every attack runs with the model in evaluation mode, batch by batch. Each batch has random draws
seeded by (seed, kind of attack, position). So finished batches can be kept, an interrupted evaluation goes on to the
same numbers, and PGD-20 read off the trajectory of PGD-100 equals PGD-20 run alone.

No time goes into images that are already lost: an image that is misclassified without an attack counts as broken by
every attack, and AutoAttack takes only what the attacks before it left standing. Attacks search on a copy of the model
whose batch norms are folded into its convolutions (``nuat.models.folding``), in the arithmetic of
``nuat.evaluation.search_precision``. A success counts only if a fresh fp32 pass of the model itself denies the label,
on an example within the ball and the box.

Nothing of the model is trusted: every pass goes through ``nuat.evaluation.guarded_model``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from nuat.attacks import eval_mode
from nuat.attacks.catalogue import QUICK, across, look_up, split
from nuat.attacks.given_attacks import given_rows
from nuat.attacks.jobs import AFTER_CR, Takes
from nuat.attacks.planned_jobs import jobs
from nuat.config import ThreatConfig
from nuat.core import digest
from nuat.core.threat import Norm
from nuat.data import ImageSet, class_balanced, to_float
from nuat.data.given_images import Array, ImageSource, given_images
from nuat.distributed.world import ALONE, World
from nuat.errors import InputError
from nuat.evaluation.arguments import (
    Attacks,
    check_greys,
    check_model,
    check_number,
    check_radius_of,
    class_names,
    classes_of,
    line_up,
    settled_threat,
    temperature_of,
)
from nuat.evaluation.batch_size import FEW, fitting_batch_size
from nuat.evaluation.class_order import order_by_name
from nuat.evaluation.compiled_copy import CompiledCopy, settings_for_compiling
from nuat.evaluation.guarded_model import ClimbableModel, guarded
from nuat.evaluation.inspection import (
    change_warnings,
    check_logits,
    inspect,
    lost_gradients,
    no_gradient,
    unsteady,
)
from nuat.evaluation.job_runner import JobRunner
from nuat.evaluation.partial_results import PartialResults, results_key
from nuat.evaluation.quick_verdict import doubt_of_quick
from nuat.evaluation.results import AttackResult, Evaluation, black_box_note
from nuat.evaluation.search_precision import Bf16Forward, SearchPrecision, settled
from nuat.evaluation.warning_log import Warn, WarningLog
from nuat.hardware import describe, full_precision, versions
from nuat.models.folding import folded
from nuat.progress import Progress


def evaluate(
    model: nn.Module,
    x: ImageSource,
    y: Array | Sequence[int] | Attacks | None = None,
    attacks: Attacks | None = None,
    *,
    eps: float | None = None,
    norm: Norm = "Linf",
    path: Path | str | None = None,
    threat: ThreatConfig | None = None,
    n: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    class_map: Sequence[int] | None = None,
    classes: Sequence[str] = (),
    black_box: bool = False,
    surrogate: nn.Module | None = None,
    inspected: bool = False,
    search_precision: SearchPrecision = "auto",
    compile: bool = False,  # noqa: A002
    warn: Warn | None = None,
    state_path: Path | None = None,
    keep_state: bool = False,
    progress: Progress | None = None,
    world: World = ALONE,
) -> Evaluation:
    """Attack images and return what the model withstands.

    Args:
        model: images [B, C, H, W] in [0, 1] to logits [B, N]. It may be anybody's: it gets copies of the images, its
            output is checked on every batch, and the mode of every module is restored.
        x: images: a tensor or array, float in [0, 1] or uint8, [n, C, H, W], [n, H, W, C] or [n, H, W]; or, with their
            labels, a DataLoader or torch Dataset of (image, label), an ``ImageSet``, or the name of a data set
            ("cifar10"), whose test images are read. Of a ``StreamedSet`` only the images that are attacked are decoded.
        y: integer labels [n] of a tensor or array. After images that bring their labels, ``attacks`` may stand here.
        attacks: a suite ("quick", "paper", "standard", "full"), or a list of names as in
            ``nuat.attacks.catalogue.CATALOGUE``, of attacks on the model such as ``PGD(model, eps=8/255)``, and of
            functions of (x, y) that return attacked images. None: quick, which is clean, PGD-100 and GAMA-PGD-100.
        eps: radius of the ball. None: 8/255 in Linf.
        norm: norm of the ball: Linf, L2 or L1.
        path: .npz file or folder of the images of a named data set. None: they are read from the cache, or downloaded.
        threat: norm, radius and step size of PGD, instead of ``eps`` and ``norm``; its ``also`` adds balls, in each of
            which an image must stand. None: the step is eps / 4 in Linf, which is 2/255 at 8/255, and eps / 10 in L2
            and L1.
        n: images, class-balanced and the same in every call. None: all images.
        seed: seed of the random starts.
        batch_size: images attacked at once. None: 250; on a CUDA GPU what suits its memory.
        class_map: the logit of the model for each class of the images. None: the classes are matched by name where both
            sides have names; else logit i is class i.
        classes: names of the classes, in the order of the labels, for the results. Empty: those that the images or the
            model bring, else numbers.
        black_box: whether to run only attacks that need no gradient: those among ``attacks``, Square, and transfer from
            ``surrogate``.
        surrogate: model that the attack ``transfer`` follows the gradients of.
        inspected: whether the caller vouches for the model, so that it is neither inspected nor refused for want of a
            gradient.
        search_precision: arithmetic in which attacks search; every success is confirmed in fp32. auto: tf32 on a CUDA
            GPU, fp32 elsewhere.
        compile: whether attacks search on a compiled copy, see ``nuat.evaluation.compiled_copy``.
        warn: function called with each warning about the model. None: ``warnings.warn``.
        state_path: file that keeps finished batches. A call with the same model, images and settings resumes from it;
            it is removed at the end, unless ``keep_state``. None: nothing is kept.
        keep_state: whether ``state_path`` stays, for a caller that has more to do and removes it then.
        progress: function called as the attacks go on, see ``nuat.progress.Progress``.
        world: processes that each make this call and share the batches; all return the result of one process.

    Returns:
        The verdict on each image for each attack, with the warnings. It prints as a table.

    Raises:
        InputError: images or labels that have no meaning, or more than one; an unknown or repeated attack, more images
            than there are, a model that fails or whose logits do not fit the labels, attacks by gradients on a model
            without one, a missing extra.

    Example:
        >>> import torch
        >>> import nuat
        >>> from nuat.attacks import PGD
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
        >>> y = model(x / 255).argmax(1)
        >>> found = nuat.evaluate(model, x, y, eps=0.1, attacks=["clean", "pgd-5", PGD(model, eps=0.1)])
        >>> found.accuracy("clean")
        1.0
        >>> found.accuracy("PGD") <= found.accuracy("pgd-5") < 1.0
        True
    """
    check_model(model)
    if y is not None and attacks is None and not isinstance(x, Tensor | np.ndarray):
        y, attacks = None, cast("Attacks", y)  # the set brings its labels
    threat = settled_threat(threat, eps, norm)
    norms = [one.norm for one in threat.parts]
    asked, left_out = line_up(attacks, norms)
    rows = given_rows(asked, model, threat)
    of_given = iter(rows)
    names = tuple(attack if isinstance(attack, str) else next(of_given) for attack in asked)
    jobs(names, model, threat, surrogate=surrogate, given=rows)  # refuse what cannot be run before anything runs
    if rows and (black_box or state_path is not None):
        setting = "black_box" if black_box else "state_path"
        raise InputError(f"{setting} takes attacks by name; leave out {', '.join(rows)}.")
    given = given_images(x, cast("Array | Sequence[int] | None", y), path=path)
    images = given.images
    check_greys(images)
    check_number(n, len(images))
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size}: expected at least 1.")
    check_radius_of(threat, images)
    matched: tuple[int, ...] | None = None
    if class_map is None and given.classes:
        matched = order_by_name(classes_of(model), given.classes, owner="the model", source=given.source)
        class_map = matched
    device = next((p.device for p in model.parameters()), images.device)
    indices = torch.arange(len(images)) if n is None else class_balanced(images.labels.cpu(), n, seed=0)
    chosen = images.select(indices).to(device)
    precision, temperature = settled(search_precision, device), temperature_of(model)
    labels = chosen.labels.cpu()
    known = classes or given.classes
    named = class_names(labels, known, () if class_map else classes_of(model))
    guard = guarded(model, class_map)
    surrogate = None if surrogate is None else guarded(surrogate)
    target = ClimbableModel(guard)
    found: dict[str, AttackResult] = {}
    with eval_mode(target), full_precision(), settings_for_compiling(compile):
        logits = check_logits(target, to_float(chosen.images[: batch_size or FEW]), int(labels.max()) + 1)
        if batch_size is None:
            batch_size = world.agree(fitting_batch_size(target, to_float(chosen.images[:FEW])))
        told = WarningLog(warn, world)
        told.add(*given.notes)
        if matched is not None:
            told.add("the classes are matched by name, as their order differs from the images'.")
        if left_out:
            where = threat.norm if threat.also is None else "its norm"
            told.add(f"not defined for {where}, so left out: {', '.join(left_out)}.")
        if black_box:
            names = across(_without_gradients(names, surrogate), norms)
            told.add(f"{black_box_note(names)}.")
        findings = [] if inspected else inspect(guard, chosen, classes=len(known), batch_size=batch_size)
        told.add(*findings)
        if not inspected:
            _check_gradient(guard, chosen, [name for name in names if name not in rows])
        first_x, first_y = to_float(chosen.images[:batch_size]), chosen.labels[:batch_size]
        copy = folded(model, first_x, first_y)
        eager = Bf16Forward(copy) if precision == "bf16" else copy
        without = "only a copy with folded batch norms is compiled, and this network has none" * (copy is model)
        compiled = CompiledCopy(eager, first_x, precision, refused=unsteady(findings) or without) if compile else None
        if compiled is not None:
            told.add(*told.unsaid(compiled.note))
        itself = copy is model and precision == "fp32"
        search = target if itself else ClimbableModel(guarded(compiled or eager, class_map))
        in_use = compiled is not None and not compiled.note
        key = results_key(target, chosen, logits, threat, seed, batch_size, guard.order, precision, temperature, in_use)
        run = JobRunner(
            model=target,
            search=search,
            precision=precision,
            images=chosen,
            seed=seed,
            batch_size=batch_size,
            partial=PartialResults(state_path if world.leads else None, key, keep=keep_state),
            progress=progress,
            world=world,
            temperature=temperature,
        )
        run.partial.share(world)
        with run.partial.kept():
            first = jobs(["clean"], target, threat)[0]
            (clean,) = run.attack(first, first, torch.ones(len(chosen), dtype=torch.bool))
            found["clean"], standing = clean, dict.fromkeys([None, *norms], clean.correct)
            planned = (
                jobs(names, searched, threat, logits.shape[1], surrogate=surrogate, given=rows)
                for searched in (search, target)
            )
            for job, exact in zip(*planned, strict=True):
                if job.takes is not Takes.ALL:
                    # an attack that stops at a success of the copy might stop too early for the model
                    searched = exact if job.stops_early else job
                    own, _ = split(job.names[-1])  # an image may stand in one ball of a union and not in another
                    results = run.attack(
                        searched, exact, standing[own] if job.takes is Takes.STANDING else clean.correct
                    )
                    found.update((result.name, result) for result in results)
                    standing[own] = torch.stack([standing[own], *(result.correct for result in results)]).all(dim=0)
            doubt = ""
            if QUICK in names and "autoattack" not in names:
                verdicts = (found[name].correct for name in (AFTER_CR, QUICK))
                # a model may answer other processes differently
                doubt = world.agree(doubt_of_quick(guard, chosen, threat.eps, *verdicts))
            if doubt:
                told.add(f"{doubt}: {QUICK} is not to be believed here, and AutoAttack follows.")
                names += ("autoattack",)
                *_, job = jobs(names, search, threat, logits.shape[1], surrogate=surrogate, given=rows)
                *_, exact = jobs(names, target, threat, logits.shape[1], surrogate=surrogate, given=rows)
                (found["autoattack"],) = run.attack(job, exact, standing[None])
        if run.partial.failure:
            told.add(f"the evaluation could not be kept for a restart: {run.partial.failure}.")
        if compiled is not None:
            told.add(*told.unsaid(compiled.note))
        told.add(*lost_gradients(target, search))
        if not inspected:
            told.add(*change_warnings(guard, first_x[: len(logits)], logits))
    return Evaluation(
        results=tuple(found[name] for name in names),
        indices=indices,
        norm=threat.norm,
        eps=threat.eps,
        also=threat.also,
        seed=seed,
        batch_size=batch_size,
        images=digest.of_tensors(chosen.images, chosen.labels),
        hardware=describe(device),
        versions=versions(),
        warnings=tuple(told.texts),
        search_precision=precision,
        compiled=compiled is not None and not world.any(bool(compiled.note)),
        labels=labels,
        classes=named,
        temperature=temperature,
    )


def _without_gradients(attacks: Sequence[str], surrogate: nn.Module | None) -> tuple[str, ...]:
    """Return the attacks that need no gradient, with Square, and transfer if there is a surrogate."""
    names = [name for name in attacks if not look_up(name)[0].gradients]
    if not any(name.partition("-")[0] == "square" for name in names):
        names.append("square")
    if surrogate is not None and "transfer" not in names:
        names.append("transfer")
    return tuple(names)


def _check_gradient(model: nn.Module, images: ImageSet, attacks: Sequence[str]) -> None:
    """Refuse attacks by gradients on a model that has none."""
    names = [name for name in attacks if look_up(name)[0].gradients]
    reason = no_gradient(model, to_float(images.images[:2]), images.labels[:2]) if names else None
    if reason is not None:
        raise InputError(
            f"{', '.join(names)}: gradients are needed, but {reason}. Give --black-box (black_box=True) for Square and "
            "transfer alone, or attacks that need no gradient: clean, square, noise-1000."
        )
