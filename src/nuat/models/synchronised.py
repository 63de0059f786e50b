"""Batch norm over the images of all devices."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nuat.distributed.world import World
from nuat.errors import InputError


class _Sum(torch.autograd.Function):
    """Sum over the processes; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _Synchronised(nn.BatchNorm2d):
    """Batch norm on the CPU whose training statistics are those of the images on all processes.

    torch's own SyncBatchNorm runs on GPUs only. Statistics are taken in two passes, mean and then variance, as on one
    device. Child modules (timm's activation) follow the normalisation, in order.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise [B, C, H, W] by the statistics of all processes' images, or in evaluation by the running ones."""
        result: Tensor = self._normalised(input) if self.training else super().forward(input)
        for module in self.children():
            result = module(result)
        return result

    def _normalised(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = _Sum.apply(torch.cat([x.sum(dim=(0, 2, 3)), count]))
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = x - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
                unbiased = variance * (count / (count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        normed = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            normed = normed * self.weight[:, None, None] + self.bias[:, None, None]
        result: Tensor = normed.to(input.dtype)
        return result


def synchronise_batch_norm(model: nn.Module, world: World) -> nn.Module:
    """Replace every batch norm by one over all processes, with the same state.

    On GPUs these are torch's SyncBatchNorm, or timm's, which wait for the device at each layer. With a single process
    the model is returned unchanged.

    Raises:
        InputError: a batch norm is of a kind that cannot be synchronised.

    Example:
        >>> from torch import nn
        >>> from nuat.models import synchronise_batch_norm
        >>> from nuat.distributed.world import ALONE
        >>> norm = nn.BatchNorm2d(3)
        >>> synchronise_batch_norm(norm, ALONE) is norm
        True
    """
    if world.size == 1:
        return model
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    timm = any(_of_timm(module) for _, module in norms)
    on_gpu = next(model.parameters(), torch.empty(0)).device.type == "cuda"
    for name, module in norms:
        plain = type(module) is nn.BatchNorm2d or (on_gpu and type(module) in (nn.BatchNorm1d, nn.BatchNorm3d))
        if not plain and not _of_timm(module):
            raise InputError(
                f"distributed.batch_norm=sync: {name} is a {type(module).__name__}, which cannot be synchronised here; "
                "leave distributed.batch_norm=device."
            )
    if on_gpu:
        if timm:
            from timm import layers  # torch's conversion would drop the activation inside timm's batch norms

            converted: nn.Module = layers.convert_sync_batchnorm(model)  # type: ignore[attr-defined,no-untyped-call]
        else:
            converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(parent, name, _like(child))
    return model


def _of_timm(norm: nn.Module) -> bool:
    """Return whether a batch norm is timm's, which applies dropout and activation after it."""
    return type(norm).__name__ == "BatchNormAct2d" and [name for name, _ in norm.named_children()] == ["drop", "act"]


def _like(norm: _BatchNorm) -> _Synchronised:
    """Return a synchronised batch norm that shares the tensors and modules of ``norm``."""
    made = _Synchronised(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
    )
    made._parameters, made._buffers, made._modules = norm._parameters, norm._buffers, norm._modules
    made.training = norm.training
    return made
