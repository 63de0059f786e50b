"""How lambda is to be scaled with the batch and the classes, where the norm is divided by the batch alone."""

from nuat.core.gaussian_norms import nuclear_per_image


def lambda_factor(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Return the factor on lambda that keeps lambda nuc / M when (M, C) changes from ``before`` to ``after``."""
    return nuclear_per_image(*before) / nuclear_per_image(*after)


def scale_warnings(before: tuple[int, int], after: tuple[int, int], lam: float | None) -> list[str]:
    """Return the settings that should change with the batch and the classes, a line each.

    Args:
        before: images a batch and classes that the recipe's settings are for.
        after: images a batch and classes of the plan.
        lam: lambda's peak, if it is the recipe's own. None: there is none, or the user has chosen it.
    """
    told = []
    factor = lambda_factor(before, after)
    if lam is not None and not 0.9 < factor < 1.1:
        told.append(
            f"lambda is not scale-free: nuc / M of Gaussian differences is {nuclear_per_image(*after):.2f} with "
            f"{after[0]} images and {after[1]} classes, {nuclear_per_image(*before):.2f} with the recipe's {before[0]} "
            f"and {before[1]}. To keep its weight: --defense.lam.peak {lam * factor:.3g}."
        )
    ratio = after[0] / before[0]
    if not 0.5 < ratio < 2.0:
        told.append(
            f"the learning rate is for batches of {before[0]}. In proportion, which is a rule of thumb, it would be "
            f"{ratio:.3g} times that, with a warm-up, and the decay of an average tau ** {ratio:.3g}."
        )
    return told
