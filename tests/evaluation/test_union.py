"""Evaluations in a union of balls: each ball as if alone, and the worst case over norms."""

import dataclasses
from pathlib import Path

import pytest
import torch
from evaluation_models import evaluate, linear_case, tiny_case

import nuat
from nuat.attacks import PGD
from nuat.config import ThreatConfig
from nuat.data import to_float
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.evaluation.union import part_within
from nuat.records.evaluations import read_evaluation

UNION = ThreatConfig(eps=0.01, pgd_alpha=0.0025, also="L2:0.06,L1:0.1")
ATTACKS = ("clean", "pgd-3", "pgd-5", "gama-4")


def test_each_ball_is_as_if_alone_and_the_union_is_the_worst_of_them(tmp_path: Path) -> None:
    model, images = tiny_case(24)
    found = evaluate(model, images, ATTACKS, threat=UNION, batch_size=10)
    verdicts = {result.name: result.correct for result in found.results}
    assert list(verdicts) == [*ATTACKS, *(f"{norm}:{name}" for norm in ("L2", "L1") for name in ATTACKS[1:])]
    assert found.also == UNION.also
    alone = {one.norm: evaluate(model, images, ATTACKS, threat=one, batch_size=10) for one in UNION.parts}
    for norm, single in alone.items():
        for result in single.results[1:]:
            name = result.name if norm == "Linf" else f"{norm}:{result.name}"
            assert torch.equal(verdicts[name], result.correct), name
        assert torch.equal(found.worst_cases[norm], single.worst_case)
    for part, single in zip(found.by_ball, alone.values(), strict=True):
        assert (part.norm, part.eps, part.also) == (single.norm, single.eps, None)
        assert [one.name for one in part.results] == list(ATTACKS)
        assert torch.equal(part.worst_case, single.worst_case)
    union = torch.stack([single.worst_case for single in alone.values()]).all(dim=0)
    assert torch.equal(found.worst_case, union)
    assert len({int(single.worst_case.sum()) for single in alone.values()}) > 1
    text = found._repr_html_()  # the lines of a table on a terminal may be folded
    assert "worst case over norms" in text
    assert "worst case, L1" in text
    assert "Linf eps 0.01 and L2 0.06, L1 0.1" in text
    found.save(tmp_path / "union.json")
    again = read_evaluation(tmp_path / "union.json")
    assert (again.also, again.to_json()) == (found.also, found.to_json())
    assert list(found.to_json()["worst_case_by_norm"]) == ["Linf", "L2", "L1"]


def test_each_ball_of_a_union_has_the_verdicts_of_the_closed_form() -> None:
    """Away from the box a linear margin falls by eps times the dual norm of its slope, and PGD finds all of it."""
    model, images, _ = linear_case()
    slope = (model.weight[1] - model.weight[0]).detach().double().flatten()
    with torch.no_grad():
        logits = model(to_float(images.images)).double()
    margins = (logits[:, 0] - logits[:, 1]) * torch.where(images.labels == 0, 1.0, -1.0)
    falls = {"Linf": slope.abs().sum(), "L2": slope.norm(), "L1": slope.abs().max()}
    # radii between those that turn an image: each ball leaves another number standing
    standing = margins[margins > 0].sort().values
    eps = {norm: float(standing[n : n + 2].mean() / fall) for n, (norm, fall) in enumerate(falls.items(), 3)}
    threat = ThreatConfig(eps=eps["Linf"], pgd_alpha=eps["Linf"] / 4, also=f"L2:{eps['L2']!r},L1:{eps['L1']!r}")
    found = evaluate(model, images, ("clean", "pgd-60"), threat=threat)
    expected = {norm: margins > eps[norm] * fall for norm, fall in falls.items()}
    for norm, withstands in expected.items():
        assert found.worst_cases[norm].tolist() == withstands.tolist(), norm
    assert len({int(withstands.sum()) for withstands in expected.values()}) == 3
    assert found.worst_case.tolist() == torch.stack(list(expected.values())).all(dim=0).tolist()


@pytest.mark.slow
def test_an_attack_on_what_stands_takes_what_stands_in_its_own_ball() -> None:
    pytest.importorskip("pyautoattack")
    model, images = tiny_case(12)
    threat = dataclasses.replace(UNION, also="L2:0.06")
    found = evaluate(model, images, ("clean", "pgd-5", "autoattack-fast"), threat=threat, batch_size=12)
    by_name = {result.name: result for result in found.results}
    assert by_name["L2:autoattack-fast"].settings["after"] == ["clean", "L2:pgd-5"]
    assert by_name["autoattack-fast"].settings["after"] == ["clean", "pgd-5"]
    alone = evaluate(model, images, ("clean", "pgd-5", "autoattack-fast"), threat=threat.parts[1], batch_size=12)
    assert torch.equal(by_name["L2:autoattack-fast"].correct, alone.results[-1].correct)
    (part,) = (one for one in found.by_ball if one.norm == "L2")
    assert [one.settings for one in part.results] == [one.settings for one in alone.results]


def test_unions_that_cannot_be_are_refused() -> None:
    model, images = tiny_case(4)
    with pytest.raises(InputError, match="autoattack-quick is for one ball"):
        evaluate(model, images, ("clean", "autoattack-quick"), threat=UNION)
    with pytest.raises(InputError, match="attacks: one that is no name has one ball"):
        nuat.evaluate(model, images, ["clean", PGD(model, eps=0.01)], threat=UNION)
    with pytest.raises(InputError, match=r"L2:pgd-5: the threat has no further L2 ball; give --also L2:RADIUS"):
        evaluate(model, images, ("clean", "L2:pgd-5"), threat=ThreatConfig(eps=0.05))
    for also, said in (
        ("L2", "expected balls such as"),
        ("Linf:0.2", "one ball a norm"),
        ("L9:1", "norm='L9'"),
        ("L2:0", "threat.also=0"),
    ):
        with pytest.raises(InputError, match=said):
            ThreatConfig(eps=0.05, also=also)


def test_evaluations_of_one_ball_have_no_union() -> None:
    model, images = tiny_case(4)
    found = evaluate(model, images, ("clean", "pgd-3"), threat=ThreatConfig(eps=0.05))
    assert (found.also, found.worst_cases, found.by_ball) == (None, {}, ())
    assert not {"also", "worst_case_by_norm"} & set(found.to_json())
    assert Evaluation.from_json(found.to_json()).also is None


def test_a_part_in_several_balls_is_their_union_alone() -> None:
    model, images = tiny_case(24)
    found = evaluate(model, images, ATTACKS, threat=UNION, batch_size=10)
    alone = evaluate(
        model, images, ATTACKS, threat=dataclasses.replace(UNION.parts[2], also="Linf:0.01"), batch_size=10
    )
    part = part_within(found, "L1", 0.1, "Linf:0.01")
    assert part is not None
    assert (part.norm, part.eps, part.also) == ("L1", 0.1, "Linf:0.01")
    own = {result.name: result.correct for result in part.results}
    assert own.keys() == {result.name for result in alone.results}
    assert all(torch.equal(own[result.name], result.correct) for result in alone.results)
    assert part_within(found, UNION.norm, UNION.eps, UNION.also) is found
    assert part_within(part, "L2", 0.06) is None
    assert part_within(found, "L1", 0.2) is None
    assert part_within(found, "L1", 0.1, "Linf:0.02") is None
    assert part_within(alone.by_ball[0], "L1", 0.2) is None
    without = dataclasses.replace(found, results=tuple(one for one in found.results if not one.name.startswith("L2:")))
    assert part_within(without, "L2", 0.06) is None
