"""Checks whether the robustness of a model is to be believed, after Athalye et al. 2018 and Carlini et al. 2019."""

from nuat.diagnostics.examination import Examination, examine
from nuat.diagnostics.surrogate import Surrogate
from nuat.diagnostics.verdict import Gap, Status, Verdict, judge_gap

__all__ = ["Examination", "Gap", "Status", "Surrogate", "Verdict", "examine", "judge_gap"]
