"""Defenses, one per file: how a batch becomes a loss. See ``Defense`` for how to write one."""

from nuat.defenses.base import BatchLoss, Defense, State, Step
from nuat.defenses.nuat import NuAT
from nuat.defenses.nuat2 import NuAT2
from nuat.defenses.nuat_hybrid import NuATHybrid
from nuat.defenses.standard import Standard

__all__ = ["BatchLoss", "Defense", "NuAT", "NuAT2", "NuATHybrid", "Standard", "State", "Step"]
