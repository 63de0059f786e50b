"""The defenses that NuAT is compared with, slowly, in plain torch: what the fast ones in ``nuat.defenses`` are held to.

Each function is one batch of one paper's algorithm. Nothing here comes from ``nuat``: perturbations are clamped to the
ball and then to the box, losses are loops over images and classes, the optimizer is a loop over parameters. What the
papers leave open is settled as in docs/method.md:

- attacks run in evaluation mode with two exceptions: Free-AT perturbs and trains in one training-mode pass, and LIET's
  training-mode pass at the start serves the attack and the loss;
- GAT takes the attack's reference logits from the clean training-mode pass, which also serves the loss
  (``passes="one"``) or is repeated for it (``passes="authors"``);
- in training mode clean images go first (batch norm and dropout see that order); R-MGM: FGSM before R-FGSM; FGSM-PGI:
  the attacked images before those at the prior;
- AWP: the search for v is a pass on a copy, after the attack; the running statistics are those of the loss at w + v.

Noise is drawn from the generator as the library draws it: ``rand`` for uniform noise, ``randn`` for Gaussian noise, an
int8 ``randint`` of 0 and 1 for signs.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from reference.algorithm1 import Batch, cross_entropy_sum, set_mode, statistics_alone
from torch import Tensor, nn

EPS = 0.1


@dataclass
class Run:
    """The state of a slow run, and what it leaves for each update."""

    model: nn.Module
    generator: torch.Generator
    schedule: Iterator[tuple[float, float]]  # learning rate and momentum of each update
    weight_decay: float
    eps: float = EPS
    adam: bool = False  # momentum is then the decay of the first moment
    epoch: int = 0
    batch: int = 0
    velocity: dict[str, Tensor] = field(default_factory=dict)
    squares: dict[str, Tensor] = field(default_factory=dict)
    carried: Tensor | None = None  # perturbation of Free-AT [whole batch], prior of FGSM-PGI, LIET's gradients [N, ...]
    losses: list[float] = field(default_factory=list)
    trained: list[list[Tensor]] = field(default_factory=list)  # images of the training-mode passes, in order
    ascents: list[list[Tensor]] = field(default_factory=list)  # images at which an attack took a gradient
    weights: list[dict[str, Tensor]] = field(default_factory=list)  # with buffers, after each update
    carries: list[Tensor | None] = field(default_factory=list)

    def begin(self) -> None:
        self.trained.append([])
        self.ascents.append([])

    def logits(self, x: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return f(x) in training mode."""
        model = self.model if model is None else model
        set_mode(model, True)
        self.trained[-1].append(x.detach().clone())
        return model(x)

    def sign(self, x: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the sign of the gradient of objective(f(x)) in x, in evaluation mode."""
        set_mode(self.model, False)
        self.ascents[-1].append(x.detach().clone())
        x = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(self.model(x)), x)
        return torch.sign(gradient)

    def gradients(self, loss: Tensor, model: nn.Module | None = None) -> dict[str, Tensor]:
        named = dict((self.model if model is None else model).named_parameters())
        found = torch.autograd.grad(loss, list(named.values()))
        return dict(zip(named, found, strict=True))

    def update(self, loss: Tensor, gradients: dict[str, Tensor]) -> None:
        """SGD with momentum and weight decay, or Adam, on w."""
        lr, momentum = next(self.schedule)
        n = len(self.losses) + 1
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                velocity = self.velocity.get(name, torch.zeros_like(p))
                gradient = gradients[name] + self.weight_decay * p
                if self.adam:
                    square = self.squares.get(name, torch.zeros_like(p))
                    self.velocity[name] = momentum * velocity + (1 - momentum) * gradient
                    self.squares[name] = 0.999 * square + 0.001 * gradient**2
                    first = self.velocity[name] / (1 - momentum**n)
                    second = self.squares[name] / (1 - 0.999**n)
                    p -= lr * first / (torch.sqrt(second) + 1e-8)
                else:
                    self.velocity[name] = momentum * velocity + gradient
                    p -= lr * self.velocity[name]
        self.losses.append(float(loss.detach()))
        self.weights.append({name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()})
        self.carries.append(None if self.carried is None else self.carried.clone())


def inside(x: Tensor, x_adv: Tensor, eps: float) -> Tensor:
    return torch.clamp(x + torch.clamp(x_adv - x, -eps, eps), 0, 1)


def uniform(run: Run, x: Tensor, size: float) -> Tensor:
    return size * (2 * torch.rand(x.shape, generator=run.generator, dtype=x.dtype) - 1)


def signs(run: Run, x: Tensor) -> Tensor:
    return 2 * torch.randint(0, 2, x.shape, generator=run.generator, dtype=torch.int8).to(x.dtype) - 1


def mean_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return cross_entropy_sum(logits, y) / len(y)


def probabilities(logits: Tensor) -> Tensor:
    return torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)


def divergence_sum(clean: Tensor, adversarial: Tensor) -> Tensor:
    """sum_i sum_c p_ic log(p_ic / q_ic), p of the clean logits, q of the adversarial ones."""
    p, q = probabilities(clean), probabilities(adversarial)
    total = torch.zeros((), dtype=clean.dtype)
    for i in range(len(p)):
        for c in range(p.shape[1]):
            total = total + p[i, c] * torch.log(p[i, c] / q[i, c])
    return total


def distance_sum(a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros((), dtype=a.dtype)
    for i in range(len(a)):
        for c in range(a.shape[1]):
            total = total + (a[i, c] - b[i, c]) ** 2
    return total


def _descend(run: Run, loss: Tensor) -> None:
    run.update(loss, run.gradients(loss))


def _train_on(run: Run, x_adv: Tensor, y: Tensor) -> None:
    _descend(run, mean_cross_entropy(run.logits(x_adv), y))


def _fgsm(run: Run, x: Tensor, y: Tensor) -> Tensor:
    sign = run.sign(x, lambda logits: cross_entropy_sum(logits, y))
    return inside(x, x + run.eps * sign, run.eps)


def _rfgsm(run: Run, x: Tensor, y: Tensor) -> Tensor:
    x_start = torch.clamp(x + run.eps / 2 * signs(run, x), 0, 1)
    sign = run.sign(x_start, lambda logits: cross_entropy_sum(logits, y))
    return inside(x, x_start + run.eps / 2 * sign, run.eps)


def fgsm_at(run: Run, x: Tensor, y: Tensor) -> None:
    run.begin()
    _train_on(run, _fgsm(run, x, y), y)


def rfgsm_at(run: Run, x: Tensor, y: Tensor) -> None:
    run.begin()
    _train_on(run, _rfgsm(run, x, y), y)


def fbf(run: Run, x: Tensor, y: Tensor, step_size: float, clamped: bool = True) -> None:
    """Wong et al. 2020, Algorithm 3; in their MNIST code the start is not clamped to the box."""
    run.begin()
    x_start = x + uniform(run, x, run.eps)
    if clamped:
        x_start = torch.clamp(x_start, 0, 1)
    sign = run.sign(x_start, lambda logits: cross_entropy_sum(logits, y))
    _train_on(run, inside(x, x_start + step_size * run.eps * sign, run.eps), y)


def n_fgsm(run: Run, x: Tensor, y: Tensor, noise: float) -> None:
    """de Jorge et al. 2022, Eq. 4: nothing is clamped to the ball."""
    run.begin()
    x_noisy = torch.clamp(x + uniform(run, x, noise * run.eps), 0, 1)
    sign = run.sign(x_noisy, lambda logits: cross_entropy_sum(logits, y))
    _train_on(run, torch.clamp(x_noisy + run.eps * sign, 0, 1), y)


def r_mgm(run: Run, x: Tensor, y: Tensor, weight: float) -> None:
    run.begin()
    x_fgsm, x_rfgsm = _fgsm(run, x, y), _rfgsm(run, x, y)
    f_fgsm = run.logits(x_fgsm)
    f_rfgsm = run.logits(x_rfgsm)
    _descend(run, mean_cross_entropy(f_fgsm, y) + weight * distance_sum(f_fgsm, f_rfgsm) / len(y))


def gat(
    run: Run, x: Tensor, y: Tensor, weights: list[float], alpha: float, guided: str = "odd", passes: str = "one"
) -> None:
    """Sriramanan et al. 2020, Algorithm 2; ``weights`` are those of the epochs."""
    run.begin()
    weight = weights[run.epoch]
    f_x = run.logits(x)
    p_x = probabilities(f_x)

    def objective(logits: Tensor) -> Tensor:
        loss = cross_entropy_sum(logits, y)
        if guided == "every" or (guided == "odd" and run.batch % 2 == 1):
            loss = loss + weight * distance_sum(probabilities(logits), p_x.detach())
        return loss

    x_start = torch.clamp(x + alpha * signs(run, x), 0, 1)
    x_adv = inside(x, x_start + run.eps * run.sign(x_start, objective), run.eps)
    f_adv = run.logits(x_adv)
    if passes == "authors":  # the clean pass of the loss is another, and the last
        f_x = run.logits(x)
        p_x = probabilities(f_x)
    else:
        statistics_alone(run.model, x)
    distance = distance_sum(probabilities(f_adv), p_x)
    _descend(run, mean_cross_entropy(f_x, y) + weight * distance / len(y))


def _pgd(run: Run, x: Tensor, y: Tensor, steps: int, step_size: float) -> Tensor:
    x_adv = torch.clamp(x + uniform(run, x, run.eps), 0, 1)
    for _ in range(steps):
        sign = run.sign(x_adv, lambda logits: cross_entropy_sum(logits, y))
        x_adv = inside(x, x_adv + step_size * run.eps * sign, run.eps)
    return x_adv


def pgd_at(run: Run, x: Tensor, y: Tensor, steps: int, step_size: float) -> None:
    run.begin()
    _train_on(run, _pgd(run, x, y, steps, step_size), y)


def _kl_attack(run: Run, x: Tensor, steps: int, step_size: float) -> Tensor:
    set_mode(run.model, False)
    with torch.no_grad():
        f_x = run.model(x)
    noise = torch.randn(x.shape, generator=run.generator, dtype=x.dtype)
    x_adv = inside(x, x + 0.001 * noise, run.eps)
    for _ in range(steps):
        sign = run.sign(x_adv, lambda logits: divergence_sum(f_x, logits))
        x_adv = inside(x, x_adv + step_size * run.eps * sign, run.eps)
    return x_adv


def trades(run: Run, x: Tensor, y: Tensor, beta: float, steps: int, step_size: float) -> None:
    """Zhang et al. 2019, Algorithm 1."""
    run.begin()
    x_adv = _kl_attack(run, x, steps, step_size)
    f_x = run.logits(x)
    f_adv = run.logits(x_adv)
    _descend(run, mean_cross_entropy(f_x, y) + beta * divergence_sum(f_x, f_adv) / len(y))


def _awp(run: Run, gamma: float, objective: Callable[[nn.Module], Tensor]) -> None:
    """Wu et al. 2020, Algorithm 1: v on a copy, the loss and its gradient at w + v on a copy, SGD on w."""
    proxy = copy.deepcopy(run.model)
    gradients = run.gradients(objective(proxy), proxy)
    worst = copy.deepcopy(run.model)
    with torch.no_grad():
        for name, p in worst.named_parameters():
            if p.dim() > 1:
                v = gradients[name] / torch.sqrt((gradients[name] ** 2).sum()) * torch.sqrt((p**2).sum()) * gamma
                p += v
    loss = objective(worst)
    gradients = run.gradients(loss, worst)
    for own, seen in zip(run.model.buffers(), worst.buffers(), strict=True):
        own.copy_(seen)
    run.update(loss, gradients)


def awp(run: Run, x: Tensor, y: Tensor, steps: int, step_size: float, gamma: float, warm_epochs: int) -> None:
    run.begin()
    x_adv = _pgd(run, x, y, steps, step_size)

    def objective(model: nn.Module) -> Tensor:
        return mean_cross_entropy(run.logits(x_adv, model), y)

    if run.epoch < warm_epochs:
        _descend(run, objective(run.model))
    else:
        _awp(run, gamma, objective)


def trades_awp(
    run: Run, x: Tensor, y: Tensor, beta: float, steps: int, step_size: float, gamma: float, warm_epochs: int
) -> None:
    run.begin()
    x_adv = _kl_attack(run, x, steps, step_size)

    def objective(model: nn.Module) -> Tensor:
        f_x = run.logits(x, model)
        f_adv = run.logits(x_adv, model)
        return mean_cross_entropy(f_x, y) + beta * divergence_sum(f_x, f_adv) / len(y)

    if run.epoch < warm_epochs:
        _descend(run, objective(run.model))
    else:
        _awp(run, gamma, objective)


def free_at(run: Run, x: Tensor, y: Tensor, replays: int, largest: int) -> None:
    """Shafahi et al. 2019, Algorithm 1; as in their code, a pixel that the box cuts off has no gradient."""
    if run.carried is None:
        run.carried = torch.zeros(largest, *x.shape[1:], dtype=x.dtype)
    for _ in range(replays):
        run.begin()
        delta = run.carried[: len(x)].clone()
        x_adv = torch.clamp(x + delta, 0, 1).requires_grad_()
        loss = mean_cross_entropy(run.logits(x_adv), y)
        (gradient,) = torch.autograd.grad(loss, x_adv, retain_graph=True)
        gradients = run.gradients(loss)
        gradient[(x + delta < 0) | (x + delta > 1)] = 0
        run.carried[: len(x)] = torch.clamp(delta + run.eps * torch.sign(gradient), -run.eps, run.eps)
        run.update(loss, gradients)


def fgsm_pgi(run: Run, x: Tensor, y: Tensor, weight: float) -> None:
    """Jia et al. 2022, FGSM-BP: the first batch, the largest, starts at uniform noise."""
    run.begin()
    if run.carried is None:
        run.carried = uniform(run, x, run.eps)
    x_prior = torch.clamp(x + run.carried[: len(x)], 0, 1)
    sign = run.sign(x_prior, lambda logits: cross_entropy_sum(logits, y))
    x_adv = inside(x, x_prior + run.eps * sign, run.eps)
    run.carried[: len(x)] = x_adv - x
    f_adv = run.logits(x_adv)
    f_prior = run.logits(x_prior)
    distance = distance_sum(f_adv, f_prior) / f_adv.numel()
    _descend(run, mean_cross_entropy(f_adv, y) + weight * distance)


def soft_cross_entropy_sum(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """- sum_i sum_c t_ic log p_ic, where t is (1 - s) + s / N for the true class and s / N for the others."""
    p = probabilities(logits)
    n = p.shape[1]
    total = torch.zeros((), dtype=logits.dtype)
    for i in range(len(y)):
        for c in range(n):
            t = smoothing / n + (1 - smoothing if c == int(y[i]) else 0)
            total = total - t * torch.log(p[i, c])
    return total


def liet(
    run: Run,
    x: Tensor,
    y: Tensor,
    weights: list[float],
    every: int,
    least: float,
    largest: float,
    smoothing: float,
    large_eps: bool = False,
) -> None:
    """Pan et al. 2025; ``weights`` are those of the epochs, ``large_eps``: what their code does above 8/255."""
    run.begin()
    weight = weights[run.epoch]
    n = run.model.linear.out_features
    if run.batch % every == 0:
        set_mode(run.model, False)
        grey = torch.full((n, *x.shape[1:]), 0.5, dtype=x.dtype)
        run.ascents[-1].append(grey.clone())
        loss = soft_cross_entropy_sum(run.model(grey.requires_grad_()), torch.arange(n), smoothing)
        (run.carried,) = torch.autograd.grad(loss, grey)
    share = least + (largest - least) * torch.rand((), generator=run.generator, dtype=x.dtype)
    noise = uniform(run, x, 2 * run.eps if large_eps else run.eps)
    replaced = torch.rand(x.shape, generator=run.generator, dtype=x.dtype) < share
    delta = torch.stack([run.eps * torch.sign(run.carried[int(label)]) for label in y])
    delta[replaced] = noise[replaced]
    subtracted = torch.rand((), generator=run.generator, dtype=x.dtype) < 0.5
    x_start = torch.clamp(x - delta if subtracted else x + delta, 0, 1).requires_grad_()
    f_start = run.logits(x_start)
    (gradient,) = torch.autograd.grad(soft_cross_entropy_sum(f_start, y, smoothing), x_start, retain_graph=True)
    x_adv = x_start.detach() + run.eps * torch.sign(gradient)
    x_adv = torch.clamp(x_adv, 0, 1) if large_eps else inside(x, x_adv, run.eps)
    f_adv = run.logits(x_adv)
    p, q = probabilities(f_start), probabilities(f_adv)
    divergence = torch.zeros((), dtype=x.dtype)
    for i in range(len(x)):
        for c in range(n):
            middle = (p[i, c] + q[i, c]) / 2
            divergence = divergence + p[i, c] * torch.log(p[i, c] / middle) / 2
            divergence = divergence + q[i, c] * torch.log(q[i, c] / middle) / 2
    _descend(run, (soft_cross_entropy_sum(f_adv, y, smoothing) + weight * divergence) / len(y))


def train(
    model: nn.Module,
    epochs: list[list[Batch]],
    method: Callable[..., None],
    *,
    generator: torch.Generator,
    schedule: Iterator[tuple[float, float]],
    weight_decay: float,
    eps: float = EPS,
    adam: bool = False,
    **settings: Any,
) -> Run:
    run = Run(model, generator, schedule, weight_decay, eps, adam)
    for e, batches in enumerate(epochs):
        for b, (x, y) in enumerate(batches):
            run.epoch, run.batch = e, b
            method(run, x, y, **settings)
    return run
