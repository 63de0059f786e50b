"""Checks of the sizes that a network is built for."""

from nuat.errors import InputError


def check_counts(**counts: int) -> None:
    """Refuse a count (channels, classes, width, ...) below 1."""
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name}={count}: expected at least 1.")


def check_image_size(network: str, image_size: tuple[int, int], *, least: int) -> None:
    """Refuse images (H, W) with a side below the least [pixels] that the network can take."""
    if min(image_size) < least:
        height, width = image_size
        raise InputError(
            f"image_size={height}x{width}: {network} needs images of at least {least}x{least} pixels; "
            "enlarge the images or choose a resnet."
        )


def check_same_size(network: str, image_size: tuple[int, int], came: tuple[int, int]) -> None:
    """Refuse images (H, W) of another size than the network was built for."""
    if came != image_size:
        raise InputError(
            f"images of {came[0]}x{came[1]} pixels: this {network} was built for {image_size[0]}x{image_size[1]}; "
            "resize the images or build the model with their image_size."
        )
