"""The nuclear norm of a matrix and its subgradient: the one hot kernel of this project.

The nuclear norm ||A||_* is the sum of the singular values (section 2). With the thin decomposition A = U S V^T its
subgradient of least norm is U V^T, where the directions of the singular values that are zero (to rounding) take no
part: at zero the value is 0 and so is the subgradient.
"""

from typing import Any

import torch
from torch import Tensor

from nuat.errors import InputError


class NonFiniteError(InputError):
    """A matrix of logit differences holds infinities or NaN."""


class _NuclearNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        value, polar = _value_and_polar(a)
        ctx.save_for_backward(polar)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # torch's once_differentiable lets this pass where ``gradient`` is a constant: the term would be left out
        if torch.is_grad_enabled():
            raise RuntimeError("nuclear_norm can be differentiated once only; create_graph=True asks for more.")
        (polar,) = ctx.saved_tensors
        product: Tensor = gradient * polar
        return product


def _value_and_polar(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nuclear norm [] and U V^T [M, N] of ``a`` [M, N], both in the dtype of ``a``."""
    tolerance = max(a.shape) * torch.finfo(a.dtype).eps
    if a.dtype == torch.float64:
        # the Gram matrix would square the condition number; nothing wider than float64 is there to absorb it
        u, s, vh = torch.linalg.svd(a, full_matrices=False)
        kept = (s > tolerance * s[:1]).to(a.dtype)
        return s.sum(), (u * kept) @ vh
    # float64 absorbs the squared condition number of the smaller Gram matrix: at 1e3 the smallest singular value
    # keeps 10 digits, and an eigenproblem of the number of classes is much cheaper than a decomposition of A
    wide = a.double()
    tall = a.shape[0] >= a.shape[1]
    gram = wide.mT @ wide if tall else wide @ wide.mT
    eigenvalues, vectors = torch.linalg.eigh(gram)
    s = eigenvalues.clamp(min=0.0).sqrt()
    kept = s > tolerance * s[-1:]
    inverse = torch.where(kept, 1.0 / s, 0.0)
    root = (vectors * inverse) @ vectors.mT
    polar = wide @ root if tall else root @ wide
    return s.sum().to(a.dtype), polar.to(a.dtype)


def nuclear_norm(a: Tensor) -> Tensor:
    """Return the nuclear norm ||a||_*, the sum of the singular values, differentiable once.

    Args:
        a: matrix [M, N], M and N >= 1. Of a dtype narrower than float32 (also under autocast) the norm is taken in
            float32; the gradient comes back in the dtype of ``a``.

    Returns:
        Scalar of dtype float32, or float64 for float64 input. Its gradient is U V^T [M, N], and 0 in the directions
        whose singular value is 0 to rounding, so that zero and rank-deficient matrices give finite gradients.

    Raises:
        NonFiniteError: ``a`` holds infinities or NaN (on a GPU the check waits for the device).
        InputError: ``a`` is not a non-empty floating-point matrix.

    Source: section 2 and Eq. 1 and 2 of the paper.
    """
    if a.ndim != 2 or a.numel() == 0 or not a.is_floating_point():
        raise InputError(
            f"nuclear_norm takes a non-empty floating-point matrix [M, N]; got {list(a.shape)} of {a.dtype}."
        )
    if not bool(torch.isfinite(a).all()):
        raise NonFiniteError(
            "nuclear_norm got infinities or NaN: the logits have diverged. Lower the learning rate or lambda."
        )
    with torch.autocast(device_type=a.device.type, enabled=False):
        wide = a if a.dtype == torch.float64 else a.float()
        value: Tensor = _NuclearNorm.apply(wide)
        return value
