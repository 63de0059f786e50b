"""Digests of tensors, and of what else the state of a module may hold."""

import hashlib

import torch

from nuat.core import digest


def test_a_digest_is_that_of_the_bytes_in_order() -> None:
    a, b = torch.arange(6, dtype=torch.int32).reshape(2, 3), torch.tensor([0.5], dtype=torch.bfloat16)
    expected = hashlib.sha256(b"text" + a.T.contiguous().numpy().tobytes() + b.view(torch.uint8).numpy().tobytes())
    assert digest.of_tensors(a.T, b, settings="text") == expected.hexdigest()


def test_other_things_count_by_their_printed_form() -> None:
    packed = torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8)
    states = [(), (1,), (2,), ({"a": 1},), (packed,), (torch.eye(2).to_sparse(),)]
    assert len({digest.of_tensors(*state) for state in states}) == len(states)
