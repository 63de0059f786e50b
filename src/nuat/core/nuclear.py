"""The nuclear norm of a matrix and its subgradient.

The nuclear norm ||A||_* is the sum of the singular values (section 2). With the thin decomposition A = U S V^T, its
subgradient of least norm is U V^T over the directions whose singular value is not zero to rounding. At zero both the
value and the subgradient are 0.

Both follow from G = A A^T or A^T A, whichever is smaller, in float64, which absorbs the squared condition number:
U V^T = G^(-1/2) A and ||A||_* = tr G^(1/2). On a CPU the decomposition of G is fastest. On a GPU it would make the host
wait, so G^(-1/2) comes from a fixed number of matrix products there.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from nuat.core.losses import wide
from nuat.core.nonfinite import left_to_watch
from nuat.errors import InputError, NonFiniteError

Method = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Function from a matrix [M, N], float32 or float64, to its nuclear norm [] and U V^T [M, N] in the same dtype."""


class _NuclearNorm(torch.autograd.Function):
    """The value of a matrix's nuclear norm, with U V^T as its gradient in the matrix."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, value: Tensor, polar: Tensor) -> Tensor:
        ctx.save_for_backward(polar)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # torch's once_differentiable lets this pass where ``gradient`` is a constant: the term would be left out
        if torch.is_grad_enabled():
            raise RuntimeError("nuclear_norm can be differentiated once only; create_graph=True asks for more.")
        (polar,) = ctx.saved_tensors
        return gradient * polar, None, None


def _method(device: str, dtype: torch.dtype) -> Method:
    """Return the method for a matrix of ``dtype`` on a type of device."""
    if dtype == torch.float64:
        return _by_svd
    return _by_iteration if device == "cuda" else _by_eigh


def _by_svd(a: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose ``a`` itself: in float64, G would square the condition number with nothing wider to absorb it."""
    _check_finite(bool(torch.isfinite(a).all()))
    u, s, vh = torch.linalg.svd(a, full_matrices=False)
    kept = (s > _tolerance(a) * s[:1]).to(a.dtype)
    return s.sum(), (u * kept) @ vh


def _by_eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose G [k, k]: singular values of float32 down to 1e-3 of the largest keep 10 digits in G."""
    a64 = a.double()
    tall = a.shape[0] >= a.shape[1]
    gram = _lower_gram(a64.mT if tall else a64)
    _check_finite(math.isfinite(gram.trace().item()))  # squares of float32 cannot overflow in float64
    eigenvalues, vectors = torch.linalg.eigh(gram)
    # Python's numbers: for ten of them, one operation on tensors costs more than all of this
    s = [math.sqrt(max(value, 0.0)) for value in eigenvalues.tolist()]
    least = _tolerance(a) * s[-1]  # singular values up to it are 0 to rounding
    inverse = gram.new_tensor([1.0 / value if value > least else 0.0 for value in s])
    root = (vectors * inverse) @ vectors.mT
    if a.numel() < _LARGE or not 1e-30 < s[-1] < 1e30:
        polar = (a64 @ root if tall else root @ a64).to(a.dtype)
    else:  # float32 takes half the time, and is still more accurate than a decomposition in float32
        root = root.to(a.dtype)
        with torch.autocast(device_type=a.device.type, enabled=False):
            polar = a @ root if tall else root @ a
    return a.new_tensor(math.fsum(s)), polar


_LARGE = 2**15
"""Number of entries from which ``_by_eigh`` takes its last product in float32 (measured on a CPU)."""


def _lower_gram(rows: Tensor) -> Tensor:
    """Return R R^T [k, k] of ``rows`` R [k, n]; from 128 rows, compute only blocks that cover the lower half."""
    k = rows.shape[0]
    if k < 128:
        return rows @ rows.mT
    gram = rows.new_zeros(k, k)
    ends = [k * part // 4 for part in range(5)]
    for start, end in itertools.pairwise(ends):
        torch.mm(rows[start:end], rows[:end].mT, out=gram[start:end, :end])
    return gram


def _by_iteration(a: Tensor) -> tuple[Tensor, Tensor]:
    """Take U V^T by matrix products alone: nothing waits for the device, and no step depends on the values.

    Every singular value s, as a fraction of a bound close to the largest, passes through the odd polynomials of
    ``_STEPS``, which bring [3e-4, 1] to within 3e-4 of 1, and through s^3 (5 - 3 s^2) / 2, which squares the remaining
    error and sends values far from 1 to 0. Only the squares R of the present singular values and the Q of U V^T = Q A
    are carried, both [k, k]. A direction whose singular value is 0 to rounding (1e-7) gets a gradient below 1e-8;
    one between that and 3e-4 gets between 0 and 1 times its gradient.

    Infinities and NaN make the value and the whole gradient NaN.
    """
    a64 = a.double()
    # neither squares nor fourth powers may overflow or vanish; zero stays zero
    largest = torch.linalg.vector_norm(a64, math.inf).clamp(min=_TINY)
    a64 = a64 / largest
    tall = a.shape[0] >= a.shape[1]
    gram = a64.mT @ a64 if tall else a64 @ a64.mT
    # bounds the square of the largest singular value, and is at most k^(1/4) times as large: tr(G^4)^(1/4)
    bound = torch.linalg.vector_norm(gram @ gram).sqrt().clamp(min=_TINY)
    start = r = gram / bound
    q = torch.eye(len(r), dtype=r.dtype, device=r.device)
    for first, third, fifth in _STEPS:
        s = torch.addmm(r, r, r, beta=third, alpha=fifth)
        q = torch.addmm(q, q, s, beta=first)
        y = torch.addmm(r, r, s, beta=first)
        r = torch.addmm(y, y, s, beta=first)
    q = q @ torch.addmm(r, r, r, beta=2.5, alpha=-1.5)
    unit = bound.sqrt()
    q_unit = q / unit
    polar = a64 @ q_unit if tall else q_unit @ a64
    return ((q * start).sum() * unit * largest).to(a.dtype), polar.to(a.dtype)


_TINY = 1e-300

_STEPS = (
    (8.501064, -25.229464, 18.725849),
    (4.234517, -3.144553, 0.584696),
    (4.162825, -3.094790, 0.579020),
    (3.889071, -2.902616, 0.557114),
    (3.115615, -2.335582, 0.492763),
    (2.150921, -1.530979, 0.404032),
    (1.880115, -1.255672, 0.375568),
)
"""Coefficients of s, s^3 and s^5. Each polynomial is the nearest to 1, in the worst case, on the range to which those
before it bring [3e-4, 1], by Remez's algorithm (Amsel et al. 2025, The Polar Express)."""


def _tolerance(a: Tensor) -> float:
    """Return the fraction of the largest singular value below which others are 0 to rounding."""
    return max(a.shape) * torch.finfo(a.dtype).eps


def _check_finite(finite: bool) -> None:
    if not finite:
        raise NonFiniteError(
            "nuclear_norm got infinities or NaN: the logits have diverged. Lower the learning rate or lambda."
        )


def nuclear_norm(a: Tensor) -> Tensor:
    """Return the nuclear norm ||a||_*, the sum of the singular values, differentiable once.

    Args:
        a: matrix [M, N], M and N >= 1. Of a dtype narrower than float32, also under autocast, the norm is taken in
            float32; the gradient has the dtype of ``a``.

    Returns:
        Scalar, float32, or float64 for float64 input. Its gradient is U V^T [M, N], and 0 in directions whose singular
        value is 0 to rounding: zero and rank-deficient matrices have finite gradients.

    Raises:
        NonFiniteError: ``a`` holds infinities or NaN. On a GPU, where nothing waits for the device, and within a
            ``nuat.core.nonfinite.Watch``, the value and the whole gradient are NaN instead, for the caller to check;
            float64 always waits, and raises.
        InputError: ``a`` is not a non-empty floating-point matrix.

    Source: section 2 and Eq. 1 and 2 of the paper.

    Example:
        >>> import torch
        >>> from nuat import nuclear_norm
        >>> a = torch.diag(torch.tensor([3.0, 4.0])).requires_grad_()
        >>> norm = nuclear_norm(a)
        >>> norm.backward()
        >>> round(norm.item(), 4)
        7.0
        >>> a.grad.round(decimals=4)
        tensor([[1., 0.],
                [0., 1.]])
    """
    if a.ndim != 2 or a.numel() == 0 or not a.is_floating_point():
        raise InputError(
            f"nuclear_norm takes a non-empty floating-point matrix [M, N]; got {list(a.shape)} of {a.dtype}."
        )
    a = wide(a)
    method = _method(a.device.type, a.dtype)
    try:
        with torch.no_grad():
            value, polar = method(a)
    except NonFiniteError:
        if not left_to_watch(a):
            raise
        return math.nan * a.sum()  # as on a GPU, the gradient is NaN, too
    norm: Tensor = _NuclearNorm.apply(a, value, polar)
    return norm


def nuclear_term(logits: Tensor, reference: Tensor) -> Tensor:
    """Return ||logits - reference||_* / M, scalar, for two [M, N] matrices of logits.

    The paper's losses are sums over the batch, divided by M in the update (Alg. 1, line 9). Beside a mean cross-entropy
    the nuclear norm is divided by M, the number of images in the batch.
    """
    return nuclear_norm(wide(logits) - wide(reference)) / logits.shape[0]


def frobenius_term(logits: Tensor, reference: Tensor) -> Tensor:
    """Return ||logits - reference||_F / M, scalar, for two [M, N] matrices of logits; its gradient at zero is zero."""
    norm: Tensor = torch.linalg.vector_norm(wide(logits) - wide(reference))
    return norm / logits.shape[0]


NormName = Literal["nuclear", "frobenius"]
NORM_TERMS: dict[NormName, Callable[[Tensor, Tensor], Tensor]] = {"nuclear": nuclear_term, "frobenius": frobenius_term}
"""Regularisers by the name of their norm."""
