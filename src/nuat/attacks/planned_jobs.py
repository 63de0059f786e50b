"""The jobs of an evaluation for the names of its attacks, in each ball of its threat."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from nuat.attacks.base import NormError
from nuat.attacks.catalogue import CATALOGUE, QUICK, look_up, split
from nuat.attacks.jobs import AttackThreat, Job, JobRequest, NamedAttack, Takes
from nuat.core.threat import Norm
from nuat.core.threat import threat as ball_of
from nuat.errors import InputError


def jobs(
    names: Sequence[str],
    model: nn.Module,
    threat: AttackThreat,
    classes: int = 10,
    *,
    surrogate: nn.Module | None = None,
    given: Mapping[str, NamedAttack] | None = None,
) -> list[Job]:
    """Return the jobs for ``names``, in their order; all step counts of PGD are one job.

    Args:
        names: names as in ``CATALOGUE``, each once.
        model: images [B, C, H, W] in [0, 1] to logits [B, N].
        threat: norm, radius and step size.
        classes: N, which decides the line-up of AutoAttack and the targets of multi-targeted attacks.
        surrogate: model whose gradients ``transfer`` follows.
        given: rows of attacks that the catalogue does not have, by name.

    Returns:
        The jobs. A job that takes only unbroken images records the attacks before it, since its result depends on them.

    Raises:
        InputError: no name, a name twice, an unknown name, a missing extra, an attack that is not defined for the norm
            or for so few classes, transfer without a surrogate.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"attacks={','.join(names)!r}: give at least one attack, and each once.")
    given = given or {}
    known = [(given[name], 0) if name in given else look_up(name) for name in names]
    balls: dict[Norm | None, AttackThreat] = {one.norm: one for one in threat.parts}
    balls[None] = threat.parts[0]
    planned: list[Job] = []
    for name, (row, number) in zip(names, known, strict=True):
        if any(name in job.names for job in planned):  # the first PGD brings all of them
            continue
        norm, plain = split(name)
        if norm is not None and (len(balls) < 3 or norm not in balls or norm == threat.norm):
            raise InputError(f"{name}: the threat has no further {norm} ball; give --also {norm}:RADIUS.")
        if plain == QUICK and len(balls) > 2:
            raise InputError(f"{QUICK} is for one ball; give autoattack or autoattack-fast for several.")
        ball = balls[norm]
        alike = zip(names, known, strict=True)
        steps = sorted(count for other, (kind, count) in alike if kind is row and split(other)[0] == norm)
        request = JobRequest(
            name=name,
            prefix=f"{norm}:" if norm else "",
            number=number,
            trajectory=tuple(steps),
            model=model,
            threat=ball,
            classes=classes,
            surrogate=surrogate,
        )
        longest = request.trajectory[-1] if row.name == "pgd-<steps>" else number
        try:
            made = row.job(request)
        except NormError as error:
            there = ", ".join(row.name for row in CATALOGUE.values() if ball.norm in row.norms)
            raise NormError(f"{name}: {error} Defined for {ball.norm}: {there}.") from None
        job = replace(
            made,
            ball=ball_of(ball.norm, ball.eps),
            settings={**made.settings, **({"norm": ball.norm, "eps": ball.eps} if norm else {})},
            takes=row.takes,
            leaves_unbroken=row.leaves_unbroken,
            stops_early=row.stops_early,
            passes=row.cost(longest),
            steps=longest or row.cost(longest),
        )
        # in a union an image may stand in one ball and not in another
        before = [
            other
            for earlier in planned
            for other in earlier.names
            if other in names and (other == "clean" or split(other)[0] == norm)
        ]
        if job.takes is Takes.STANDING and before:
            job = replace(job, settings={**job.settings, "after": before})
        planned.append(job)
    return planned
