"""SHA-256 of tensors and files, which identifies the images, weights or settings of a record."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor


def of_tensors(*tensors: object, settings: str = "") -> str:
    """Return the digest of a text and of the tensors' bytes, in order, as hexadecimal digits.

    The state of a stranger's module may hold other things, such as packed weights: they count by their printed form.
    """
    digest = hashlib.sha256(settings.encode())
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.layout is torch.strided and not tensor.is_quantized:
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(repr(tensor).encode())
    return digest.hexdigest()


def of_file(path: Path) -> str:
    """Return the digest of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
