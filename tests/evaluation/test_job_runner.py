"""Progress of a running attack: its name, its step, and the share of its batch that is done."""

import re
from typing import Any

import pytest
from evaluation_models import THREAT, evaluate, tiny_case

from nuat.distributed.world import World
from nuat.errors import InputError
from nuat.evaluation import job_runner

pytest.importorskip("pyautoattack")


def heard(monkeypatch: pytest.MonkeyPatch, attack: str, *, batch_size: int = 8) -> list[tuple[Any, ...]]:
    """Return everything that is told of an attack in an evaluation of two batches."""
    monkeypatch.setattr(job_runner, "_SECONDS_BETWEEN_STEPS", 0.0)
    model, images = tiny_case(12)
    told: list[tuple[Any, ...]] = []
    evaluate(model, images, ("clean", attack), threat=THREAT, batch_size=batch_size, progress=lambda *t: told.append(t))
    return [one for one in told if one[0] == attack]


def test_each_step_of_an_attack_is_told_within_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    told = heard(monkeypatch, "pgd-20")
    total = told[0][2]
    steps = [one for one in told if len(one) == 4]
    assert [one[3] for one in steps if one[1] < 8][:3] == ["step 0/20", "step 1/20", "step 2/20"]
    assert {f"step {k}/20" for k in range(21)} == {one[3] for one in steps}
    assert all(0 < done <= total for _, done, *_ in told)
    done = [one[1] for one in told]
    assert done == sorted(done)
    assert [one for one in told if len(one) == 3] == [("pgd-20", 8, total), ("pgd-20", total, total)]


@pytest.mark.slow
def test_an_attack_without_a_number_tells_its_passes_of_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    told = heard(monkeypatch, "apgd-ce", batch_size=12)
    steps = [one[3] for one in told if len(one) == 4]
    assert len(steps) > 50
    assert all(re.fullmatch(r"step \d+/550", step) for step in steps)


def test_no_step_is_told_of_a_single_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "_SECONDS_BETWEEN_STEPS", 0.0)
    model, images = tiny_case(12)
    told: list[tuple[Any, ...]] = []
    evaluate(model, images, ("clean",), threat=THREAT, batch_size=8, progress=lambda *one: told.append(one))
    assert told == [("clean", 8, 12), ("clean", 12, 12)]


def test_hooks_are_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_runner, "_SECONDS_BETWEEN_STEPS", 0.0)
    model, images = tiny_case(8)

    def stop(name: str, done: float, total: int, step: str = "", /) -> None:
        if step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(model, images, ("pgd-5",), threat=THREAT, progress=stop)
    evaluate(model, images, ("pgd-5",), threat=THREAT)  # a hook that stayed would stop this one, too


def test_a_model_that_another_process_refuses_is_refused_by_all() -> None:
    class Two(World):
        def any(self, flag: bool, *, patient: bool = False) -> bool:
            return flag

        def agree(self, value: Any) -> Any:
            return value

        def objects(self, value: Any, *, patient: bool = False) -> list[Any]:
            return [value, (8, None, "the model fails there")]

    model, images = tiny_case(12)
    with pytest.raises(InputError, match="the model fails there"):
        evaluate(model, images, ("clean",), threat=THREAT, batch_size=8, world=Two(size=2))
