"""A diagnosis on the terminal: the verdict first, a line for each check, and everything on request."""

import io
from collections.abc import Sequence

import pytest
import torch

from nuat.diagnostics import Examination, Gap, Status, Verdict, judge_gap
from nuat.diagnostics.strength import COMPARISONS
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.progress import terminal
from nuat.report.diagnosis import LEGEND, headline, verdict_lines, verdict_prose

P, F, I = Status.PASS, Status.FAIL, Status.INCONCLUSIVE  # noqa: E741
OTHERS = (
    "repeated forward passes agree",
    "training and evaluation mode agree",
    "gradients neither vanish nor explode",
    "the loss is locally linear",
    "accuracy falls with eps",
    "an unbounded attack succeeds",
)


def verdict(status: Status, check: str = "a check", shown: str = "+12.3 pt [+10.1, +15.0]") -> Verdict:
    return Verdict(check=check, status=status, threshold="t", meaning="what it means", measured={"n": 5}, shown=shown)


def examination(statuses: Sequence[Status], skipped: tuple[str, ...] = ()) -> Examination:
    flags = torch.ones(300, dtype=torch.bool)
    results = (AttackResult("clean", {}, flags, 1.0, 1, 1),)
    found = Evaluation(results=results, indices=torch.arange(300), eps=0.3, seed=0, batch_size=9, hardware="here")
    return Examination(tuple(map(verdict, statuses)), found, skipped=skipped)


def printed(thing: object, width: int = 80) -> str:
    console = terminal()
    console.file = out = io.StringIO()
    console.size = (width, 25)  # type: ignore[assignment]
    console.print(thing)
    return out.getvalue()


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        ((P, P), "Verdict: believable, as far as these checks see (2 pass, 0 FAIL, 0 cannot judge; 300 images)"),
        ((P, I), "Verdict: no check fails, but some cannot judge (1 pass, 0 FAIL, 1 cannot judge; 300 images)"),
        ((F, I, P), "Verdict: not to be believed (1 pass, 1 FAIL, 1 cannot judge; 300 images)"),
    ],
)
def test_the_verdict_comes_with_the_counts(statuses: tuple[Status, ...], says: str) -> None:
    assert headline(examination(statuses)) == says
    assert len(says) <= 100


def test_a_quick_examination_is_called_partial() -> None:
    found = examination((P, P), skipped=("a", "b", "c"))
    assert headline(found).startswith("Partial verdict, 2 of 5 checks: believable, as far as these checks see (2 pass")
    assert found.to_json()["left_out"] == [f"{name}: left out of a quick examination" for name in "abc"]


def test_every_check_is_one_line_of_80_columns() -> None:
    names = (*OTHERS, *(comparison.check for comparison in COMPARISONS))
    shown = "-100.0 pt [-100.0, -98.7]"
    found = [verdict(status, name, shown) for name, status in zip(names, (I, F, P) * 6, strict=False)]
    head, *lines = printed(verdict_lines(found)).splitlines()
    assert head.split() == ["check", "measured", "verdict"]
    assert len(lines) == len(names) == 16
    assert len(LEGEND) <= 80
    for line, one in zip(lines, found, strict=True):
        assert len(line.rstrip()) <= 80
        assert line.startswith(f"{one.check} ")
        assert one.shown in line
        assert line.rstrip().endswith({P: "pass", F: "FAIL", I: "cannot judge"}[one.status])


def test_prose_has_the_threshold_the_measurements_and_the_meaning() -> None:
    text = " ".join(printed(verdict_prose([verdict(F)]), 100).split())
    for part in ("a check", "n: 5", "what it means", "FAIL", "│ t "):
        assert part in text


def test_a_gap_is_shown_in_points_with_its_interval() -> None:
    found = judge_gap("c", Gap(30, 6, 300), allowed=0.0, matters=0.01, asks="a", passes="p", fails="f")
    low, high = (100 * end for end in Gap(30, 6, 300).interval)
    assert found.shown == f"+8.0 pt [{low:+.1f}, {high:+.1f}]"
    assert "shown" not in found.to_json()
