"""The shape of each JSON record of a run: the keys that somebody reads, with their types. Further keys are free."""

from typing import Literal, NotRequired, TypedDict

from nuat.core.threat import Norm
from nuat.records.json_values import Amount, Count, Fraction, Positive


class _SuiteShape(TypedDict):
    images: Literal["test", "validation"]
    n: Positive
    accuracies: dict[str, Fraction]


class _AlarmShape(TypedDict):
    monitor: str
    epoch: Positive
    message: NotRequired[str]
    stop: NotRequired[bool]


class RowShape(TypedDict):
    """row.json: a row of a campaign."""

    recipe: str
    status: NotRequired[Literal["done", "failed"]]
    campaign: NotRequired[str]
    label: NotRequired[str]
    seed: NotRequired[Count | None]
    settings: NotRequired[dict[str, str]]
    suites: NotRequired[dict[str, _SuiteShape]]
    failed_suites: NotRequired[dict[str, str]]
    alarms: NotRequired[list[_AlarmShape]]
    hardware: NotRequired[str]
    nuat: NotRequired[str]
    git: NotRequired[str | None]
    packages: NotRequired[dict[str, str | None]]


class _DoneSecondsShape(TypedDict):
    training: Amount


class DoneRowShape(TypedDict):
    """row.json of a row that is done."""

    eps: Amount
    epochs: Positive
    best_epoch: Count
    forwards: Count
    backwards: Count
    seconds: _DoneSecondsShape
    hardware: str
    suites: dict[str, _SuiteShape]


class FailedRowShape(TypedDict):
    """row.json of a row that failed."""

    reason: str


class _ThreatShape(TypedDict):
    eps: Amount
    norm: NotRequired[Norm]
    also: NotRequired[str | None]


class _DataShape(TypedDict):
    name: str
    path: NotRequired[str | None]
    train_limit: NotRequired[Positive | None]
    validation: NotRequired[Amount | None]


class _ModelShape(TypedDict):
    name: str
    width: NotRequired[Positive | None]


_ClassShape = TypedDict("_ClassShape", {"class": NotRequired[str]})


class _AveragingShape(TypedDict):
    tau: NotRequired[float | list[float] | None]


class _ConfigShape(TypedDict):
    threat: _ThreatShape
    data: _DataShape
    model: _ModelShape
    epochs: Positive
    defense: NotRequired[_ClassShape]
    averaging: NotRequired[_AveragingShape]
    batch_size: NotRequired[Positive]
    precision: NotRequired[str]
    seed: NotRequired[Count]


class ConfigFileShape(TypedDict):
    """config.json: recipe and settings."""

    recipe: str
    config: _ConfigShape


class EnvironmentShape(TypedDict):
    """environment.json: versions, hardware and command."""

    started: NotRequired[str]
    command: NotRequired[list[str]]
    hardware: NotRequired[str]
    packages: NotRequired[dict[str, str | None]]
    nuat: NotRequired[str]
    git: NotRequired[str | None]


class SplitShape(TypedDict):
    """split.json: source and number of the images."""

    source: NotRequired[str]
    train: NotRequired[Count]
    test: NotRequired[Count]
    validation: NotRequired[Count]


class _EpochLineShape(TypedDict):
    epoch: Positive
    lr: float
    train: dict[str, float | None]
    validation: dict[str, dict[str, float | None]]


class _EndLineShape(TypedDict):
    epochs: Positive
    best_epoch: Count
    forwards: Count
    backwards: Count
    seconds: Amount


class _SwitchLineShape(TypedDict):
    epoch: Count


METRICS_LINES = {"epoch": _EpochLineShape, "end": _EndLineShape, "alarm": _AlarmShape, "switch": _SwitchLineShape}
"""Lines of the metrics that somebody reads, by their kind."""


class _VerdictShape(TypedDict):
    check: str
    status: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    threshold: str
    meaning: str


class _DiagnosedEvaluationShape(TypedDict):
    n: Positive


class DiagnosisShape(TypedDict):
    """diagnosis.json: verdicts of ``nuat diagnose``."""

    verdicts: list[_VerdictShape]
    evaluation: _DiagnosedEvaluationShape
    left_out: NotRequired[list[str]]
