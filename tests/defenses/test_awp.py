"""AWP takes the loss of PGD-AT or TRADES at the worst weights nearby."""

import pytest
from defenses.baselines_equality import (
    CASES,
    EPS,
    KL,
    NORMS,
    PGD,
    Fast,
    assert_equals_the_slow_one,
    make_epochs,
    network,
)

from nuat.core.threat import Linf
from nuat.defenses import AWP, PGDAT, TRADES, TRADESAWP, Step

AWPS = ("awp", "awp-warmup", "trades-awp")


@pytest.mark.slow
@NORMS
@pytest.mark.parametrize("name", AWPS)
def test_equals_the_slow_one(name: str, norm: bool) -> None:
    assert_equals_the_slow_one(name, norm)


@pytest.mark.parametrize(("name", "plain"), [("awp", "pgd-at"), ("trades-awp", "trades")])
def test_it_updates_the_running_statistics_as_often_as_the_plain_loss(name: str, plain: str) -> None:
    counts = [int(Fast(CASES[which][0], True).weights[-1]["norm1.num_batches_tracked"]) for which in (name, plain)]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("epochs", [30, 100, 110, 200])
def test_the_warmup_ends_with_a_whole_epoch(epochs: int) -> None:
    model = network(False).train()
    x, y = make_epochs()[0][0]
    passes: list[int] = []
    model.register_forward_hook(lambda m, *_: passes.append(1) if m.training else None)
    for warm in {0, 1, 7, epochs // 10, 11 * epochs // 20, 14 * epochs // 25, epochs - 1}:
        found = []
        for e in (warm - 1, warm):
            passes.clear()
            step = Step(threat=Linf(EPS), epoch=e, epochs=epochs, batch=0, batches=1)
            AWP(steps=1, warmup=warm / epochs).loss(model, x, y, step, {})
            found.append(len(passes))
        assert found == [1, 2] if warm else found[1] == 2, warm


@pytest.mark.parametrize("name", AWPS)
def test_it_raises_the_loss_it_descends(name: str) -> None:
    """The first loss at w + v is above that at w, by about gamma times the gradient's size; without it, it is equal."""
    defense = CASES[name][0]
    plain = TRADES(**KL) if isinstance(defense, TRADES) else PGDAT(**PGD)
    above = Fast(defense, False).losses[0] - Fast(plain, False).losses[0]
    assert above == 0.0 if name == "awp-warmup" else above > 0.01


def test_the_defaults_are_those_of_their_code() -> None:
    assert (AWP().gamma, TRADESAWP().gamma) == (0.01, 0.005)
    assert (TRADESAWP().beta, TRADESAWP().steps, AWP().steps) == (6.0, 10, 10)
