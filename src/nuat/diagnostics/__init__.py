"""Is a model's robustness to be believed? The checklist of Athalye et al. 2018 and Carlini et al. 2019 as verdicts."""

from nuat.diagnostics.examination import Examination, examine
from nuat.diagnostics.transfer import Surrogate
from nuat.diagnostics.verdict import Gap, Status, Verdict, judge_gap

__all__ = ["Examination", "Gap", "Status", "Surrogate", "Verdict", "examine", "judge_gap"]
