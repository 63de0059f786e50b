"""An evaluation that is cut off goes on to the same numbers, without doing finished batches again."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from evaluation_models import THREAT, Watched, correct, evaluate, timeless, tiny_case

from nuat.config import ThreatConfig
from nuat.data import ImageSet
from nuat.errors import InputError
from nuat.evaluation import job_runner, partial_results
from nuat.evaluation.results import Evaluation

ATTACKS = ("clean", "pgd-2", "pgd-5", "gama-3")
N, BATCH = 10, 4  # three batches, the last of two images
# forward passes of a batch: clean 1, the trajectory 5 + 2, gama 1 + 3 + 1; and once the check of the logits
CALLS = 1 + 3 * (1 + 7 + 5)


def interrupt_at(number: int) -> object:
    def at(call: int) -> None:
        if call == number:
            raise KeyboardInterrupt

    return at


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "partial.json"


def run(watched: Watched, images: ImageSet, state: Path | None = None, **changes: object) -> Evaluation:
    settings = {"threat": THREAT, "batch_size": BATCH, "state_path": state, **changes}
    return evaluate(watched, images, settings.pop("attacks", ATTACKS), **settings)


def cut_off(state: Path, number: int = 1 + 3 + 7 + 4) -> tuple[Watched, ImageSet]:
    """Interrupt an evaluation; by default in the second batch of the trajectory."""
    model, images = tiny_case(N)
    watched = Watched(model, at=interrupt_at(number))
    with pytest.raises(KeyboardInterrupt):
        run(watched, images, state)
    watched.at, watched.calls, watched.images = None, 0, 0
    return watched, images


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 4, 5, 11, 12, 15, 30, CALLS])
def test_the_next_call_goes_on_to_the_identical_evaluation(number: int, state: Path) -> None:
    watched, images = cut_off(state, number)
    # whole batches of whole jobs that were finished before the interruption
    spans = [1] * 3 + [7] * 3 + [5] * 3
    finished, spent = 0, 1
    for span in spans:
        if spent + span >= number:
            break
        spent += span
        finished += 1
    assert state.is_file()
    assert [path.name for path in state.parent.iterdir()] == [state.name]
    resumed = run(watched, images, state)
    assert watched.calls == 1 + sum(spans[finished:])
    assert not state.exists()
    undisturbed = run(watched, images)
    assert watched.calls == 1 + sum(spans[finished:]) + CALLS
    assert timeless(resumed) == timeless(undisturbed)
    assert all(result.seconds for result in resumed.results if result.shared_with is None)


@pytest.mark.slow
def test_it_can_be_cut_off_again_and_again(state: Path) -> None:
    model, images = tiny_case(N)
    watched = Watched(model)
    interruptions = 0
    while True:
        watched.at, watched.calls = interrupt_at(1 + 7 + 1), 0  # no call gets further than one or two batches
        try:
            found = run(watched, images, state)
        except KeyboardInterrupt:
            interruptions += 1
            assert interruptions < 20
            continue
        break
    assert interruptions >= 3
    watched.at = None
    assert timeless(found) == timeless(run(watched, images))


@pytest.mark.slow
def test_it_is_kept_on_the_way_for_those_who_are_not_interrupted_politely(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_results, "_SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr(job_runner, "_SECONDS_BETWEEN_STEPS", float("inf"))
    model, images = tiny_case(N)
    watched = Watched(model)
    kept: list[bytes] = []
    undisturbed = run(watched, images, state, progress=lambda *_: kept.append(state.read_bytes()))
    assert len(set(kept)) == len(kept) == 9
    assert not state.exists()
    state.write_bytes(kept[4])  # as a killed process leaves it: five of nine batches
    watched.calls = 0
    assert timeless(run(watched, images, state)) == timeless(undisturbed)
    assert watched.calls == 1 + 1 * 7 + 3 * 5


def test_an_error_keeps_what_is_finished_too(state: Path) -> None:
    model, images = tiny_case(N)

    def fail(call: int) -> None:
        if call == 20:
            raise RuntimeError("out of memory")

    with pytest.raises(InputError, match=r"the model fails on images of .*: out of memory") as caught:
        run(Watched(model, at=fail), images, state)
    assert isinstance(caught.value.__cause__, RuntimeError)  # it leads to the line of the model
    assert state.is_file()


def test_nothing_is_kept_without_a_finished_batch_or_a_path(tmp_path: Path, state: Path) -> None:
    model, images = tiny_case(N)
    with pytest.raises(KeyboardInterrupt):
        run(Watched(model, at=interrupt_at(2)), images, state)
    with pytest.raises(KeyboardInterrupt):
        run(Watched(model, at=interrupt_at(20)), images, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"threat": ThreatConfig(eps=0.11, pgd_alpha=THREAT.pgd_alpha)},
        {"threat": ThreatConfig(eps=THREAT.eps, pgd_alpha=0.02)},
        {"batch_size": 5},
        {"n": 9},
    ],
    ids=["seed", "eps", "alpha", "batch_size", "n"],
)
def test_other_settings_do_not_use_it(changes: dict[str, object], state: Path) -> None:
    watched, images = cut_off(state)
    found = run(watched, images, state, **changes)
    calls = watched.calls
    fresh = run(watched, images, **changes)
    assert watched.calls == 2 * calls
    assert timeless(found) == timeless(fresh)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["weight", "buffer", "pixel", "label"])
def test_another_model_or_other_images_do_not_use_it(what: str, state: Path) -> None:
    watched, images = cut_off(state)
    if what == "weight":
        with torch.no_grad():
            watched.model.conv1.weight[0, 0, 0, 0] += 1e-3
    elif what == "buffer":
        watched.model.norm1.running_mean[0] += 1e-3
    elif what == "pixel":
        images.images[3, 0, 0, 0] ^= 1
    else:
        images.labels[3] = (images.labels[3] + 1) % 4
    run(watched, images, state)
    calls, watched.calls = watched.calls, 0
    run(watched, images)
    assert calls == watched.calls


def test_a_step_count_read_off_a_longer_trajectory_is_not_taken_for_one_that_ran_alone(state: Path) -> None:
    """Its verdicts would be right, its cost would not."""
    watched, images = cut_off(state, CALLS)  # both PGDs are finished, together
    found = run(watched, images, state, attacks=("pgd-2",))
    assert timeless(found) == timeless(run(watched, images, attacks=("pgd-2",)))
    attacked = correct(watched.model, images)
    assert (found.results[0].forwards, found.results[0].backwards) == (3 * attacked, 2 * attacked)


def test_attacks_that_are_asked_for_later_use_what_is_finished(state: Path) -> None:
    watched, images = cut_off(state, CALLS)
    found = run(watched, images, state, attacks=("fgsm", "pgd-5", "pgd-2", "clean"))
    assert watched.calls == 1 + 3 * 2
    assert [result.name for result in found.results] == ["fgsm", "pgd-5", "pgd-2", "clean"]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "binary", "cut", "list", "number", "no results", "null"])
def test_a_damaged_file_is_ignored(damage: str, state: Path) -> None:
    watched, images = cut_off(state)
    whole = state.read_bytes()
    contents = {
        "empty": b"",
        "binary": b"\xff\xfe\x00\x01",
        "cut": whole[: len(whole) // 2],
        "list": b"[1, 2]",
        "number": b"3",
        "no results": json.dumps({"key": json.loads(whole)["key"]}).encode(),
        "null": b"null",
    }
    state.write_bytes(contents[damage])
    found = run(watched, images, state)
    assert watched.calls == CALLS
    assert not state.exists()
    assert timeless(found) == timeless(run(watched, images))


@pytest.mark.parametrize("change", [("1", "0"), ('"cost": [', '"cost": [1'), ('"pgd-5"', '"pgd-6"')])
def test_a_file_that_was_changed_is_ignored(change: tuple[str, str], state: Path) -> None:
    watched, images = cut_off(state)
    before, jobs, after = state.read_text().partition('"jobs"')
    changed = after.replace(*change, 1)
    assert changed != after
    state.write_text(before + jobs + changed)
    assert timeless(run(watched, images, state)) == timeless(run(watched, images))
    assert watched.calls == 2 * CALLS


def test_a_folder_that_is_removed_is_no_reason_to_end_and_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_results, "_SECONDS_BETWEEN_SAVES", -1.0)
    folder = tmp_path / "run"
    folder.mkdir()
    model, images = tiny_case(N)
    with pytest.warns(UserWarning, match=r"could not be kept for a restart: .*partial.json: No such file"):
        found = run(
            Watched(model, at=lambda call: call == 9 and shutil.rmtree(folder)), images, folder / "a.partial.json"
        )
    assert timeless(found)["results"] == timeless(run(Watched(model), images))["results"]
    assert not folder.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC])
def test_a_state_that_may_not_be_written_is_no_reason_to_end_and_a_full_disk_is(
    number: int, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, text: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(partial_results, "_SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr(partial_results, "write_text", refuse)
    model, images = tiny_case(N)
    if number == errno.ENOSPC:
        with pytest.raises(OSError, match="No space left"):
            run(Watched(model), images, state)
    else:
        with pytest.warns(UserWarning, match="could not be kept for a restart: "):
            assert run(Watched(model), images, state).n == N
