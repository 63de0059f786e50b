"""Algorithm 1 of the paper, slowly and line by line, in plain torch: what the fast defenses are compared with.

Nothing here comes from ``nuat``: the nuclear norm is a sum of singular values, the losses and the optimizer are
loops. The conventions are those of the authors' scripts (paper/hyperparameters.md, "How their step behaves"):

- the loss is CE on clean images + lam * nuclear norm, as sums over the batch, divided by the actual M (line 9);
- the start is clamped to [0, 1]; after each step the perturbation is clamped to the ball, then the image to [0, 1];
- attacks run with batch norm in evaluation mode. Single-step: the reference logits f(X) of the attack come from a
  pass in training mode before it, which serves the loss too (``passes="one"``) or is repeated for it
  (``passes="authors"``). Two-step: f(X) in evaluation mode, and a clean pass in training mode for the loss;
- in training mode batch norm sees the authors' three passes: clean, attacked, clean (``passes="one"``: the last one for
  its statistics alone, without a draw of dropout). Two-step: attacked, clean;
- odd batches of an epoch are attacked with CE + lam * nuclear norm, even ones with CE only, from batch 0 on;
- lam is set per epoch: peak * min(e / (until * epochs), 1), e from 0;
- averages take weights and running statistics, after the update; integer buffers are copied.

Noise: per batch one ``torch.randint(0, 2, X.shape, generator, dtype=int8)``, 1 for +alpha and 0 for -alpha: the same
draw as ``nuat.core.threat.bernoulli`` makes, so that both consume one generator alike.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


@dataclass
class Record:
    """Losses, perturbed images and weights of a run."""

    model: nn.Module
    losses: list[float] = field(default_factory=list)
    clean_losses: list[float] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)
    attacks: list[Tensor] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)  # clean losses of the pass before the attack (hybrid)
    two_step: list[bool] = field(default_factory=list)
    attack_average: dict[str, Tensor] = field(default_factory=dict)
    evaluation_average: dict[str, Tensor] = field(default_factory=dict)


def nuclear_norm(matrix: Tensor) -> Tensor:
    _, singular_values, _ = torch.linalg.svd(matrix, full_matrices=False)
    total = torch.zeros((), dtype=matrix.dtype)
    for value in singular_values:
        total = total + value
    return total


def rank(matrix: Tensor) -> float:
    _, singular_values, _ = torch.linalg.svd(matrix, full_matrices=False)
    values = singular_values.tolist()
    return sum(values) ** 2 / sum(value**2 for value in values)


def cross_entropy_sum(logits: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros((), dtype=logits.dtype)
    for i in range(len(y)):
        total = total + torch.logsumexp(logits[i], dim=0) - logits[i, y[i]]
    return total


def norm_attack(
    model: nn.Module,
    x: Tensor,
    norm: Callable[[Tensor], Tensor],
    *,
    eps: float,
    alpha: float,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> Tensor:
    """Section 5.1: steps on the norm of f(X + Delta) - f(X) alone, from a Bernoulli start, in evaluation mode."""
    with torch.no_grad():
        reference = model(x)
    signs = 2 * torch.randint(0, 2, x.shape, generator=generator, dtype=torch.int8).to(x.dtype) - 1
    x_adv = torch.clamp(x + torch.clamp(alpha * signs, -eps, eps), 0, 1)
    for _ in range(steps):
        z = x_adv.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(norm(model(z) - reference), z)
        x_adv = torch.clamp(x + torch.clamp(x_adv + step_size * torch.sign(gradient) - x, -eps, eps), 0, 1)
    return x_adv


def entropy_of_the_mean_softmax(model: nn.Module, x: Tensor) -> float:
    """Section 5.1, in base 10."""
    rows = [[math.exp(value) for value in row] for row in model(x).tolist()]
    shares = [[value / sum(row) for value in row] for row in rows]
    means = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
    return -sum(mean * math.log10(mean) for mean in means)


def set_mode(model: nn.Module, training: bool) -> None:
    for module in model.modules():
        module.training = training


@torch.no_grad()
def statistics_alone(model: nn.Module, x: Tensor) -> None:
    """A pass in training mode that nothing but batch norm's mean and variance remembers."""
    with torch.random.fork_rng():
        model(x)
    for name, counter in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            counter -= 1


def frobenius_norm(matrix: Tensor) -> Tensor:
    total = torch.zeros((), dtype=matrix.dtype)
    for value in matrix.flatten():
        total = total + value**2
    return torch.sqrt(total)


def attack_step(
    model: nn.Module, x: Tensor, y: Tensor, delta: Tensor, f_x: Tensor | None, lam: float, eps: float, norm=nuclear_norm
):
    """Lines 5-7 on a model in evaluation mode; without ``f_x`` on the cross-entropy alone. Returns the new Delta."""
    delta = delta.clone().requires_grad_()
    f_adv = model(x + delta)
    loss = cross_entropy_sum(f_adv, y)
    if f_x is not None:
        loss = loss + lam * norm(f_adv - f_x)  # line 5
    (gradient,) = torch.autograd.grad(loss, delta)
    delta = delta.detach() + eps * torch.sign(gradient)  # line 6
    delta = torch.clamp(delta, -eps, eps)  # line 7
    return torch.clamp(x + delta, 0, 1) - x


def train(
    model: nn.Module,
    epochs: list[list[Batch]],
    *,
    variant: str,  # "nuat", "nuat2" or "hybrid"
    passes: str = "one",  # "one" or "authors"
    nuclear_batches: str = "odd",  # "odd", "every" or "never"
    norm=nuclear_norm,
    eps: float,
    alpha: float,
    lam_peak: float,
    lam_until: float,
    schedule: Iterator[tuple[float, float]],  # learning rate and momentum of each update
    weight_decay: float,
    generator: torch.Generator,
    attack_tau: float | None = None,
    evaluation_tau: float | None = None,
    drop: float = 0.0,
) -> Record:
    record = Record(model)
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    if attack_tau is not None:
        record.attack_average = {name: t.detach().clone() for name, t in model.state_dict().items()}
    if evaluation_tau is not None:
        record.evaluation_average = {name: t.detach().clone() for name, t in model.state_dict().items()}
    previous_epoch: list[float] = []
    this_epoch: list[float] = []

    for e, batches in enumerate(epochs):  # line 2
        lam = lam_peak * min(e / (lam_until * len(epochs)), 1.0)
        previous_epoch, this_epoch = this_epoch, []

        for b, (x, y) in enumerate(batches):  # line 3
            m = len(x)
            coin = torch.randint(0, 2, x.shape, generator=generator, dtype=torch.int8)
            delta = alpha * (2 * coin.to(x.dtype) - 1)  # line 4
            delta = torch.clamp(x + delta, 0, 1) - x

            # the clean pass
            set_mode(model, True)
            f_x = None
            if variant in ("nuat", "hybrid"):
                f_x = model(x)
            two_step = variant == "nuat2"
            if variant == "hybrid":
                clean = float(cross_entropy_sum(f_x.detach(), y) / m)
                if previous_epoch:
                    two_step = clean < (1 - drop) * (sum(previous_epoch) / len(previous_epoch))
                this_epoch.append(clean)
                record.watched.append(clean)
            record.two_step.append(two_step)

            # the attack
            set_mode(model, False)
            if two_step:
                first = model
                if attack_tau is not None and e > 0:
                    first = copy.deepcopy(model)
                    first.load_state_dict(record.attack_average)
                f_reference = first(x).detach()
                delta = attack_step(first, x, y, delta, f_reference if lam > 0 else None, lam, eps, norm)
                delta = attack_step(model, x, y, delta, None, 0.0, eps)
            else:
                nuclear_batch = lam > 0 and {"odd": b % 2 == 1, "every": True, "never": False}[nuclear_batches]
                delta = attack_step(model, x, y, delta, f_x.detach() if nuclear_batch else None, lam, eps, norm)
            x_adv = x + delta
            record.attacks.append(x_adv)

            # the loss
            set_mode(model, True)
            f_x_adv = model(x_adv)
            if f_x is None or passes == "authors":
                f_x = model(x)
            else:
                statistics_alone(model, x)
            clean_loss = cross_entropy_sum(f_x, y)
            loss = clean_loss + lam * norm(f_x_adv - f_x)  # line 8
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            record.losses.append(float(loss.detach() / m))
            record.clean_losses.append(float(clean_loss.detach() / m))
            record.ranks.append(rank((f_x_adv - f_x).detach()))

            # the update, line 9, with momentum and weight decay
            with torch.no_grad():
                lr, momentum = next(schedule)
                for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
                    velocity[name] = momentum * velocity[name] + gradient / m + weight_decay * p
                    p -= lr * velocity[name]
                for tau, average in (
                    (attack_tau, record.attack_average),
                    (evaluation_tau, record.evaluation_average),
                ):
                    if tau is None:
                        continue
                    for name, now in model.state_dict().items():
                        if now.is_floating_point():
                            average[name] = tau * average[name] + (1 - tau) * now
                        else:
                            average[name] = now.clone()
    return record
