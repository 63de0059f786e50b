"""The nuclear norm's value and gradient by each of our methods against torch.linalg.matrix_norm(ord="nuc").

    python benchmarks/nuclear.py [--sizes 128x10,256x1000] [--conditions 1,1000] [--rounds 9] [--device cpu]

All take the same float32 matrices, in turn. First seconds, for a matrix of normal draws and one whose singular values
fall from 1 to 1e-3; then the errors of value and gradient against a float64 decomposition, over condition numbers.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from measure import Limits, Ratio, Work, header, interleaved, markdown, median, ratio
from torch import Tensor

from nuat import hardware
from nuat.core.nuclear import Method, _by_eigh, _by_iteration, _NuclearNorm, nuclear_norm

Norm = Callable[[Tensor], Tensor]


def fixed(method: Method) -> Norm:
    """Return the norm by that method, whatever the device."""
    return lambda a: _NuclearNorm.apply(a, *method(a.detach()))


NORMS: dict[str, Norm] = {
    "torch": lambda a: torch.linalg.matrix_norm(a, ord="nuc"),
    "ours": nuclear_norm,
    "eigh": fixed(_by_eigh),
    "iteration": fixed(_by_iteration),
}


def value_and_gradient(norm: Norm, a: Tensor) -> tuple[Tensor, Tensor]:
    value = norm(a)
    return value, torch.autograd.grad(value, a)[0]


def matrix(m: int, n: int, condition: float, device: torch.device) -> Tensor:
    """Return a float32 matrix [m, n] with singular values log-spaced from 1 to 1 / condition."""
    generator = torch.Generator().manual_seed(m * n)
    k = min(m, n)
    u, v = (torch.linalg.qr(torch.randn(rows, k, generator=generator, dtype=torch.float64))[0] for rows in (m, n))
    s = torch.logspace(0.0, -torch.tensor(condition).log10().item(), k, dtype=torch.float64)
    return ((u * s) @ v.mT).float().to(device).requires_grad_()


def normal(m: int, n: int, device: torch.device) -> Tensor:
    """Return a matrix [m, n] of normal draws."""
    return torch.randn(m, n, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()


def least(m: int, n: int) -> Work:
    """Return what any way through the Gram matrix must do: that product, and the one that gives the gradient."""
    return Work(operations=2 * 2 * m * n * min(m, n), bytes=3 * m * n * 4)


def errors(norm: Norm, a: Tensor) -> tuple[float, float]:
    """Return the relative errors of the value and, in the Frobenius norm, of the gradient."""
    value, gradient = value_and_gradient(norm, a)
    u, s, vh = torch.linalg.svd(a.detach().double().cpu(), full_matrices=False)
    polar, true = u @ vh, float(s.sum())
    return abs(value.item() - true) / true, float((gradient.double().cpu() - polar).norm() / polar.norm())


def seconds_table(sizes: Sequence[tuple[int, int]], rounds: int, device: torch.device) -> str:
    limits = Limits.measure(device, torch.float64)
    print(f"float64 {limits}\n")
    rows = []
    for m, n in sizes:
        for kind, a in (("normal", normal(m, n, device)), ("condition 1e3", matrix(m, n, 1e3, device))):
            calls = {name: (lambda norm=norm, a=a: value_and_gradient(norm, a)) for name, norm in NORMS.items()}
            found = interleaved(calls, device=device, rounds=rounds, warmups=3, least_seconds=0.05)
            versus: Ratio = ratio(found["torch"], found["ours"])
            gap = median(found["ours"]) / limits.floor(least(m, n))
            rows.append(
                [
                    f"{m}x{n}, {kind}",
                    *(f"{1e3 * median(values):.3f}" for values in found.values()),
                    str(versus),
                    f"{gap:.1f}",
                ]
            )
    return markdown(["matrix", *(f"{name}, ms" for name in NORMS), "torch / ours", "ours / floor"], rows)


def errors_table(sizes: Sequence[tuple[int, int]], conditions: Sequence[float], device: torch.device) -> str:
    rows = []
    for m, n in sizes:
        for condition in conditions:
            a = matrix(m, n, condition, device)
            found = [errors(NORMS[name], a) for name in ("torch", "eigh", "iteration")]
            rows.append([f"{m}x{n}, {condition:g}", *(f"{value:.0e}, {gradient:.0e}" for value, gradient in found)])
    return markdown(["matrix, condition", "torch", "eigh", "iteration"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="128x10,128x100,64x1000,256x1000,10x10,1x1000")
    parser.add_argument("--conditions", default="1,10,100,1000")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of torch. None: its own choice")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    device = hardware.resolve(asked.device)
    sizes = [(int(m), int(n)) for m, n in (size.split("x") for size in asked.sizes.split(","))]
    print(f"{header(device)}; float32, value and gradient, median of {asked.rounds} rounds")
    print(seconds_table(sizes, asked.rounds, device))
    print("\nRelative errors of value and gradient:\n")
    print(errors_table(sizes, [float(condition) for condition in asked.conditions.split(",")], device))


if __name__ == "__main__":
    main()
