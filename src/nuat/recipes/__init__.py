"""Recipes: functions without arguments that return a complete ``TrainConfig``.

A new recipe is a function and a line of ``RECIPES``; its docstring's first line is what ``nuat recipes`` prints. That
reads the lines of ``RECIPES`` as text (``nuat.listing``), so they keep to ``"name": module.function``.
"""

from collections.abc import Callable

from nuat.config import TrainConfig
from nuat.listing import check_recipe
from nuat.recipes import (
    cifar10_resnet18,
    cifar10_wrn,
    finetune,
    imagenet,
    imagenet100,
    mnist,
    mnist_cnn,
    mnist_small,
    speedrun,
)

RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "quickstart": mnist.quickstart,
    "quickstart-standard": mnist.quickstart_standard,
    "quickstart-fgsm-at": mnist.quickstart_fgsm_at,
    "nuat-mnist": mnist.nuat_mnist,
    "speedrun-cifar10-resnet18": speedrun.cifar10_resnet18,
    "normal-cifar10-resnet18": cifar10_resnet18.normal,
    "fgsm-at-cifar10-resnet18": cifar10_resnet18.fgsm_at,
    "rfgsm-at-cifar10-resnet18": cifar10_resnet18.rfgsm_at,
    "free-at-cifar10-resnet18": cifar10_resnet18.free_at,
    "fbf-cifar10-resnet18": cifar10_resnet18.fbf,
    "r-mgm-cifar10-resnet18": cifar10_resnet18.r_mgm,
    "gat-cifar10-resnet18": cifar10_resnet18.gat,
    "gat-wa-cifar10-resnet18": cifar10_resnet18.gat_wa,
    "nuat-cifar10-resnet18": cifar10_resnet18.nuat,
    "nuat-wa-cifar10-resnet18": cifar10_resnet18.nuat_wa,
    "pgd-at-cifar10-resnet18": cifar10_resnet18.pgd_at,
    "trades-cifar10-resnet18": cifar10_resnet18.trades,
    "trades-wa-cifar10-resnet18": cifar10_resnet18.trades_wa,
    "awp-cifar10-resnet18": cifar10_resnet18.awp,
    "awp-pgd-cifar10-resnet18": cifar10_resnet18.awp_pgd,
    "pgd-at-wa-cifar10-resnet18": cifar10_resnet18.pgd_at_wa,
    "n-fgsm-cifar10-resnet18": cifar10_resnet18.n_fgsm,
    "fgsm-pgi-cifar10-resnet18": cifar10_resnet18.fgsm_pgi,
    "fbf-cifar10-wrn-34-10": cifar10_wrn.fbf,
    "gat-cifar10-wrn-34-10": cifar10_wrn.gat,
    "gat-wa-cifar10-wrn-34-10": cifar10_wrn.gat_wa,
    "nuat-cifar10-wrn-34-10": cifar10_wrn.nuat,
    "nuat-h-cifar10-wrn-34-10": cifar10_wrn.nuat_h,
    "nuat-wa-cifar10-wrn-34-10": cifar10_wrn.nuat_wa,
    "nuat-wa-h-25-cifar10-wrn-34-10": cifar10_wrn.nuat_wa_h_25,
    "nuat-wa-h-60-cifar10-wrn-34-10": cifar10_wrn.nuat_wa_h_60,
    "nuat2-cifar10-wrn-34-10": cifar10_wrn.nuat2,
    "nuat2-wa-cifar10-wrn-34-10": cifar10_wrn.nuat2_wa,
    "nuat-wa-h-cifar10-wrn-34-10": cifar10_wrn.nuat_wa_h,
    "trades-cifar10-wrn-34-10": cifar10_wrn.trades,
    "pgd-at-cifar10-wrn-34-10": cifar10_wrn.pgd_at,
    "awp-cifar10-wrn-34-10": cifar10_wrn.awp,
    "normal-mnist-mnist-cnn": mnist_cnn.normal,
    "rfgsm-at-mnist-mnist-cnn": mnist_cnn.rfgsm_at,
    "fbf-mnist-mnist-cnn": mnist_cnn.fbf,
    "r-mgm-mnist-mnist-cnn": mnist_cnn.r_mgm,
    "gat-mnist-mnist-cnn": mnist_cnn.gat,
    "gat-wa-mnist-mnist-cnn": mnist_cnn.gat_wa,
    "nuat-mnist-mnist-cnn": mnist_cnn.nuat,
    "nuat-wa-mnist-mnist-cnn": mnist_cnn.nuat_wa,
    "trades-mnist-mnist-cnn": mnist_cnn.trades,
    "pgd-at-mnist-mnist-cnn": mnist_cnn.pgd_at,
    "awp-mnist-mnist-cnn": mnist_cnn.awp,
    "normal-imagenet100-resnet18": imagenet100.normal,
    "rfgsm-at-imagenet100-resnet18": imagenet100.rfgsm_at,
    "fbf-imagenet100-resnet18": imagenet100.fbf,
    "r-mgm-imagenet100-resnet18": imagenet100.r_mgm,
    "gat-imagenet100-resnet18": imagenet100.gat,
    "gat-wa-imagenet100-resnet18": imagenet100.gat_wa,
    "nuat-imagenet100-resnet18": imagenet100.nuat,
    "nuat-wa-imagenet100-resnet18": imagenet100.nuat_wa,
    "trades-imagenet100-resnet18": imagenet100.trades,
    "pgd-at-imagenet100-resnet18": imagenet100.pgd_at,
    "awp-imagenet100-resnet18": imagenet100.awp,
    "nuat-wa-imagenet-resnet50": imagenet.nuat_wa,
    "fbf-imagenet-resnet50": imagenet.fbf,
    "normal-mnist-small-cnn": mnist_small.normal,
    "fgsm-at-mnist-small-cnn": mnist_small.fgsm_at,
    "rfgsm-at-mnist-small-cnn": mnist_small.rfgsm_at,
    "free-at-mnist-small-cnn": mnist_small.free_at,
    "fbf-mnist-small-cnn": mnist_small.fbf,
    "n-fgsm-mnist-small-cnn": mnist_small.n_fgsm,
    "fgsm-pgi-mnist-small-cnn": mnist_small.fgsm_pgi,
    "r-mgm-mnist-small-cnn": mnist_small.r_mgm,
    "gat-mnist-small-cnn": mnist_small.gat,
    "nuat-mnist-small-cnn": mnist_small.nuat,
    "nuat-wa-mnist-small-cnn": mnist_small.nuat_wa,
    "nuat-h-mnist-small-cnn": mnist_small.nuat_h,
    "nuat2-mnist-small-cnn": mnist_small.nuat2,
    "nuat2-wa-mnist-small-cnn": mnist_small.nuat2_wa,
    "pgd-at-mnist-small-cnn": mnist_small.pgd_at,
    "trades-mnist-small-cnn": mnist_small.trades,
    "awp-mnist-small-cnn": mnist_small.awp,
    "trades-awp-mnist-small-cnn": mnist_small.trades_awp,
    "finetune-folder": finetune.folder,
    "plain-vit-mnist": finetune.plain_vit_mnist,
    "finetune-vit-mnist": finetune.finetune_vit_mnist,
    "plain-convnext-mnist": finetune.plain_convnext_mnist,
    "finetune-convnext-mnist": finetune.finetune_convnext_mnist,
}
"""Name on the command line to recipe."""

DEFAULT = "quickstart"


def find(name: str) -> Callable[[], TrainConfig]:
    """Return the recipe of that name.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name not in RECIPES:
        check_recipe(name)
    return RECIPES[name]
