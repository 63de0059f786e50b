"""A trained model with what its use needs: the names of its classes, its preprocessing, its predictions."""

import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nuat.attacks import eval_mode
from nuat.data.decoding import TOO_DARK, decode_and_tell
from nuat.errors import InputError, printable
from nuat.models import Classifier

if TYPE_CHECKING:
    from nuat.records.checkpoints import WeightsInfo

Picture = Image.Image | np.ndarray[Any, Any] | bytes | str | Path
"""One image: a Pillow image, a uint8 array [H, W] or [H, W, C], the bytes of a file, or its path."""


@dataclass(frozen=True)
class Prediction:
    """Answer for one image."""

    probabilities: dict[str, float]
    """Class to probability (softmax, at the temperature that the weights bring), most probable first."""

    @property
    def label(self) -> str:
        """Most probable class."""
        return next(iter(self.probabilities))

    @property
    def probability(self) -> float:
        """Probability of that class, in [0, 1]."""
        return self.probabilities[self.label]


class TrainedClassifier(Classifier):
    """Classifier that knows its classes and how images are prepared for it.

    Called as any module, it returns logits [B, N] of images [B, C, H, W] in [0, 1].

    Example:
        >>> import nuat
        >>> from PIL import Image
        >>> model = nuat.load("quickstart")
        >>> model.classes[:3]
        ('0', '1', '2')
        >>> model.transform(Image.new("L", (40, 30))).shape
        torch.Size([1, 28, 28])
        >>> prediction, = model.predict(Image.new("L", (28, 28)))
        >>> prediction.label in model.classes
        True
    """

    def __init__(self, network: Classifier, info: "WeightsInfo") -> None:
        super().__init__(network.normalise, network.net)
        self.info = info

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, in the order of the logits."""
        return self.info.classes

    @property
    def calibration_temperature(self) -> float:
        """Temperature of the probabilities of ``predict``; the logits are without, so attacks never meet it."""
        return self.info.temperature

    def transform(self, image: Picture) -> Tensor:
        """Prepare an image as the evaluation after training did.

        The shorter side is resized (bicubic, antialiased) and the centre cut out. The camera's orientation is applied,
        and transparent pixels are shown on white.

        Args:
            image: image of any size.

        Returns:
            float32 [C, H, W] in [0, 1].

        Raises:
            InputError: it is not an image, is damaged, or has another size than a model for oblong images takes.
        """
        content, name = _encoded(image)
        several = False
        if self.info.channels == 1:
            content, several = _grey(content, name)
        height, width = self.info.image_size
        pixels, conversion = decode_and_tell(content, name, height if height == width else None, self.info.resize)
        said = []
        if 0 < conversion.largest <= TOO_DARK:
            said.append(
                f"{name} has 16 bits per pixel, but no value above {conversion.largest}: if it holds "
                f"{conversion.largest.bit_length()} bits, scale its values to 0..65535"
            )
        if several or conversion.several:
            said.append(f"{name} has several frames or pages, of which the first is taken")
        for text in said:
            warnings.warn(printable(text), RuntimeWarning, stacklevel=2)
        if pixels.shape[1:] != (height, width):
            raise InputError(
                f"{name} has {pixels.shape[1]} x {pixels.shape[2]} pixels (height, width); the model takes {height} x "
                f"{width}, so resize it first."
            )
        tensor = torch.from_numpy(pixels.astype(np.float32) / 255.0)
        return tensor.expand(self.info.channels, -1, -1).clone()

    def predict(self, images: Picture | Tensor | Iterable[Picture], *, batch_size: int = 250) -> list[Prediction]:
        """Predict the classes of images, in evaluation mode.

        Args:
            images: one image or several, which ``transform`` prepares; or a tensor [B, C, H, W] or [C, H, W] that is
                prepared already: floating-point in [0, 1], or uint8.
            batch_size: images that are predicted at once.

        Returns:
            One prediction for each image, in order.

        Raises:
            InputError: an image cannot be read, or a tensor has another shape or range.
        """
        if isinstance(images, Tensor):
            x = self._checked(images)
        else:
            one = isinstance(images, (Image.Image, np.ndarray, bytes, str, Path))
            pictures: Sequence[Any] = [images] if one else list(images)  # type: ignore[arg-type]
            x = torch.stack([self.transform(picture) for picture in pictures]) if pictures else torch.empty(0)
        example = next(self.parameters())
        with eval_mode(self), torch.no_grad():
            parts = (x[start : start + batch_size] for start in range(0, len(x), batch_size))
            logits = [self(part.to(example.device, example.dtype)).float() for part in parts]
        return [prediction for part in logits for prediction in self._predictions(part)]

    def _predictions(self, logits: Tensor) -> list[Prediction]:
        """Return the predictions of logits [B, N]: ranked by the logits, which no temperature changes."""
        order = logits.argsort(dim=1, descending=True, stable=True)
        probabilities = (logits / self.calibration_temperature).softmax(dim=1).gather(1, order)
        rows = zip(order.tolist(), probabilities.tolist(), strict=True)
        return [Prediction({self.classes[label]: value for label, value in zip(*row, strict=True)}) for row in rows]

    def _checked(self, images: Tensor) -> Tensor:
        """Return prepared images [B, C, H, W] in [0, 1]; refuse another shape or range."""
        expected = (self.info.channels, *self.info.image_size)
        x = images.unsqueeze(0) if images.ndim == 3 else images
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise InputError(
                f"images have the shape {list(images.shape)}; the model takes [B, {', '.join(map(str, expected))}]: "
                "prepare them with model.transform."
            )
        if x.dtype == torch.uint8:
            return x.float() / 255.0
        if not x.is_floating_point():
            raise InputError(f"images are {x.dtype}; give floating-point pixels in [0, 1], or uint8.")
        if len(x) and not (float(x.min()) >= 0.0 and float(x.max()) <= 1.0):
            raise InputError(
                f"images have values from {float(x.min()):.4g} to {float(x.max()):.4g}; the model takes pixels in "
                "[0, 1] and normalises them itself: divide by 255, or leave your normalisation out."
            )
        return x


def _encoded(image: Picture) -> tuple[bytes, str]:
    """Return the bytes of an image file, and its name for errors."""
    if isinstance(image, bytes):
        return image, "the image"
    if isinstance(image, (str, Path)):
        try:
            return Path(image).read_bytes(), str(image)
        except OSError as error:
            raise InputError(f"{image}: cannot be read ({error.strerror or error}).") from None
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise InputError(f"an image is {image.dtype} {list(image.shape)}; give uint8 [H, W] or [H, W, C].")
        image = Image.fromarray(image.squeeze(2) if image.ndim == 3 and image.shape[2] == 1 else image)
    if not isinstance(image, Image.Image):
        raise InputError(f"an image is a {type(image).__name__}; give a Pillow image, a uint8 array, bytes or a path.")
    name = str(getattr(image, "filename", "") or "the image")
    return _png(image), name


def _png(image: Image.Image) -> bytes:
    """Return an image as the bytes of a file without loss, the right way up."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):  # a conversion would clip them at 255
        raise InputError(f"an image has Pillow's mode {image.mode}, which has no fixed range; give 8 or 16 bits.")
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    elif image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        image = image.convert({"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(image.mode, "RGB"))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=0)
    return file.getvalue()


def _grey(content: bytes, name: str) -> tuple[bytes, bool]:
    """Return a colour image as a greyscale one, which a model of one channel takes, and whether it has more frames."""
    pixels, conversion = decode_and_tell(content, name, None)
    if len(pixels) > 1:
        content = _png(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))
    return content, conversion.several
