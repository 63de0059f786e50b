"""Exports of a trained model: one file per format, each checked before it is kept."""

from nuat.export.onnx_file import to_onnx
from nuat.export.robustbench_folder import Submission, to_robustbench
from nuat.export.safetensors_file import to_safetensors
from nuat.export.torch_file import to_torch
from nuat.export.trained_model import TrainedModel, at_temperature, find_model

__all__ = [
    "Submission",
    "TrainedModel",
    "at_temperature",
    "find_model",
    "to_onnx",
    "to_robustbench",
    "to_safetensors",
    "to_torch",
]
