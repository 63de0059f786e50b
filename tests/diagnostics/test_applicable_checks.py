"""Which checks are left for few classes and for L2, and that what is missing is said rather than passed."""

import pytest
from diagnostics.masked_models import THREAT
from torch import nn

from nuat.attacks import FGSM
from nuat.attacks.catalogue import attack_passes
from nuat.attacks.planned_jobs import jobs
from nuat.config import ThreatConfig
from nuat.diagnostics import strength
from nuat.diagnostics.applicable_checks import applicable_checks, stand_ins
from nuat.errors import InputError

pytest.importorskip("pyautoattack")

L2 = ThreatConfig(norm="L2", eps=2.0, pgd_alpha=0.1)


def test_nothing_is_left_out_within_linf() -> None:
    found = applicable_checks(nn.Identity(), THREAT, classes=10, image_size=(28, 28))
    assert found.attacks == strength.ATTACKS
    assert found.comparisons == strength.COMPARISONS
    assert found.left_out == ()


@pytest.mark.parametrize(("classes", "stand_in"), [(2, "apgd-ce"), (3, "apgd-dlr"), (4, "apgd-t")])
def test_few_classes_have_stand_ins(classes: int, stand_in: str) -> None:
    assert stand_ins(classes) == ({} if classes > 3 else {"apgd-t": stand_in})
    found = applicable_checks(nn.Identity(), THREAT, classes=classes, image_size=(8, 8))
    assert stand_in in found.attacks
    assert ("apgd-t" in found.attacks) == (classes > 3)
    jobs(found.attacks, nn.Identity(), THREAT, classes)
    for comparison in found.comparisons:
        for side in (comparison.weaker, comparison.stronger):
            assert len(set(side)) == len(side) > 0
            assert {name for name in side if " " not in name} <= set(found.attacks)
    assert len(found.comparisons) == len(strength.COMPARISONS)
    assert found.left_out == ()


def test_in_l2_every_attack_and_check_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    found = applicable_checks(nn.Identity(), L2, classes=10, image_size=(28, 28))
    assert (found.attacks, found.left_out) == (strength.ATTACKS, ())
    jobs(found.attacks, nn.Identity(), L2, 10)
    monkeypatch.setattr(FGSM, "norms", ("Linf",))  # what is not defined for a norm takes the checks on it along
    found = applicable_checks(nn.Identity(), L2, classes=10, image_size=(28, 28))
    single = "iterative attacks beat single-step ones"
    assert {c.check for c in strength.COMPARISONS} - {c.check for c in found.comparisons} == {single}
    without, unjudged = found.left_out
    assert without.startswith("without fgsm, which is not defined for L2")
    assert unjudged == f"{single}: not judged, as one side has no attack left"


def test_square_in_l2_needs_images_that_its_tiles_cover() -> None:
    found = applicable_checks(nn.Identity(), L2, classes=10, image_size=(12, 12))
    checks = {c.check for c in found.comparisons}
    assert "square" not in found.attacks
    assert "Square is weaker than white-box attacks" not in checks
    assert "Square finds nothing new" not in checks
    assert "transfer finds nothing new" in checks
    assert "square" in applicable_checks(nn.Identity(), THREAT, classes=10, image_size=(12, 12)).attacks


@pytest.mark.parametrize("threat", [THREAT, L2], ids=lambda threat: threat.norm)
def test_a_missing_extra_is_no_missing_attack(threat: ThreatConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise InputError("AutoAttack needs the official package")

    monkeypatch.setattr("nuat.attacks.autoattack._official", gone)
    with pytest.raises(InputError, match="official package"):
        applicable_checks(nn.Identity(), threat, classes=10, image_size=(28, 28))


def test_a_quick_examination_takes_the_quick_checks_with_attacks_of_few_passes() -> None:
    found = applicable_checks(nn.Identity(), THREAT, classes=10, image_size=(28, 28), quick=True)
    assert found.attacks == ("clean", "fgsm", "pgd-100", "pgd-500", "gama-100")
    assert [comparison.check for comparison in found.comparisons] == [
        "iterative attacks beat single-step ones",
        "more steps do not help",
        "more restarts do not help",
        "transfer is weaker than white-box attacks",
    ]
    assert set(found.skipped) == {c.check for c in strength.COMPARISONS if not c.quick}
    assert found.left_out == ()
    assert attack_passes(found.attacks) < attack_passes(strength.ATTACKS) / 20
    assert applicable_checks(nn.Identity(), THREAT, classes=10, image_size=(28, 28)).skipped == ()


def test_a_quick_examination_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise InputError("AutoAttack needs the official package")

    monkeypatch.setattr("nuat.attacks.autoattack._official", gone)
    assert applicable_checks(nn.Identity(), THREAT, classes=10, image_size=(28, 28), quick=True).attacks
