"""``nuat compare`` from the command line's inside."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from corrupted_files import results

from nuat.cli import main
from nuat.evaluation.comparison import compare
from nuat.evaluation.results import AttackResult, Evaluation
from nuat.records.evaluations import read_evaluation


def write(path: Path, correct: list[int], attack: str = "pgd-100", warnings: tuple[str, ...] = ()) -> Path:
    flags = torch.tensor(correct, dtype=torch.bool)
    found = Evaluation(
        results=(AttackResult(attack, {}, flags, 1.0, 1, 1),),
        indices=torch.arange(len(flags)),
        eps=0.3,
        seed=0,
        batch_size=10,
        hardware="here",
        images="digest",
        warnings=warnings,
    )
    path.parent.mkdir(exist_ok=True)
    found.save(path)
    return path


def test_a_real_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "run" / "evaluation.json", [1] * 90 + [0] * 10).parent  # a run's folder stands for its file
    b = write(tmp_path / "b.json", [1] * 60 + [0] * 40)
    assert main(["compare", str(a), str(b)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "90.00" in told
    assert "+30.00" in told
    assert "pgd-100: A is better, a real difference (p = 1.9e-09)." in told
    assert main(["compare", str(b), str(a)]) == 0
    assert "pgd-100: B is better" in " ".join(capsys.readouterr().out.split())


def test_no_difference_that_the_images_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.json", [1, 1, 0, 1])
    b = write(tmp_path / "b.json", [1, 0, 0, 1])
    assert main(["compare", str(a), str(b)]) == 0
    assert "pgd-100: these images do not tell A from B (p = 1)" in " ".join(capsys.readouterr().out.split())


def test_a_difference_that_the_exact_test_does_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Five images of 100, all on one side: the approximate interval excludes 0, the test does not show a difference."""
    a = write(tmp_path / "a.json", [1] * 95 + [0] * 5)
    b = write(tmp_path / "b.json", [1] * 90 + [0] * 10)
    assert main(["compare", str(a), str(b)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "pgd-100: A seems better, but p = 0.062: not shown at the 5 % level." in told
    assert "lies between" not in told
    assert main(["compare", str(b), str(a)]) == 0
    assert "pgd-100: B seems better" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not hold an evaluation"),
        ("[1]", "does not hold an evaluation"),
        ("{}", "does not hold an evaluation (lacks "),
        ('{"format": 2}', "does not hold an evaluation"),
    ],
)
def test_what_is_no_evaluation(text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.json", [1])
    (tmp_path / "b.json").write_text(text)
    assert main(["compare", str(a), str(tmp_path / "b.json")]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "b.json" in told
    assert "Traceback" not in told


def test_missing_and_unlike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path / "a.json", [1, 0])
    assert main(["compare", str(a), str(tmp_path / "none.json")]) == 2
    assert "none.json: no such file" in capsys.readouterr().err
    assert main(["compare", str(a), str(write(tmp_path / "b.json", [1, 0, 1]))]) == 2
    assert "different images" in capsys.readouterr().err
    assert main(["compare", str(a)]) == 2


def test_a_folder_of_several_evaluations_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A campaign's row has a file for each suite."""
    a = write(tmp_path / "a.json", [1, 1])
    row = write(tmp_path / "row" / "evaluation-main.json", [1, 0]).parent
    write(row / "evaluation-few.json", [1, 0])
    assert main(["compare", str(a), str(row)]) == 2
    told = capsys.readouterr().err
    assert f"holds several evaluations; name one: {row / 'evaluation-few.json'}, {row / 'evaluation-main.json'}" in told
    write(row / "evaluation.json", [1, 0])
    assert main(["compare", str(a), str(row)]) == 0


LONG = ("clean", "pgd-100", "adaptive-same-class-100", "multi-targeted-100")


def many_attacks(path: Path, broken: int) -> Path:
    flags = torch.arange(10_000) >= broken
    found = Evaluation(
        results=tuple(AttackResult(name, {}, flags.roll(7 * i), 1.0, 1, 1) for i, name in enumerate(LONG)),
        indices=torch.arange(len(flags)),
        eps=0.3,
        seed=0,
        batch_size=10,
        hardware="here",
        images="digest",
    )
    found.save(path)
    return path


@pytest.mark.parametrize("columns", [80, 120])
def test_a_comparison_fits_the_terminal_and_loses_no_number(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    a, b = many_attacks(tmp_path / "a.json", 1234), many_attacks(tmp_path / "b.json", 4567)
    monkeypatch.chdir(tmp_path)
    assert main(["compare", a.name, b.name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["A: a.json", "B: b.json"]
    assert max(map(len, lines)) <= columns
    for difference in compare(read_evaluation(a), read_evaluation(b)):
        low, high = (f"{100 * end:+.1f}" for end in difference.interval)
        numbers = [
            *("10,000", f"{100 * difference.accuracy_a:.2f}", f"{100 * difference.accuracy_b:.2f}"),
            *("+33.33", low, "to", high, str(difference.only_a), str(difference.only_b), f"{difference.p_value:.2g}"),
        ]
        assert any(line.split()[1:] == numbers for line in lines), difference.attack
    names = [line.split()[0] for line in lines if " +33.33 " in line]
    assert names[: len(LONG)] == list(LONG)


MASKED = "the gradient of the loss in the image is exactly 0 for 100% of 100 images (saturated or masked)."


def test_warnings_stand_before_the_verdict_which_points_at_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.json", [1] * 90 + [0] * 10, warnings=(MASKED, "the model is \x1b[31mrandom.", MASKED))
    b = write(tmp_path / "b.json", [1] * 60 + [0] * 40)
    real = "better, a real difference (p = 1.9e-09)."

    def told(first: Path, second: Path) -> str:
        assert main(["compare", str(first), str(second)]) == 0
        return " ".join(capsys.readouterr().out.split())

    text = told(a, b)
    assert text.count(MASKED) == 1
    assert "warning on A: the model is \\x1b[31mrandom." in text
    assert text.index("+30.00") < text.index(f"warning on A: {MASKED}") < text.index(real)
    assert text.endswith(f"pgd-100: A is {real} Mind the warnings on A.")
    assert told(b, a).endswith(f"pgd-100: A is {real} Mind the warnings on B.".replace("A is", "B is"))
    assert told(a, a).endswith("More images narrow that. Mind the warnings on A and B.")
    assert "warning on" not in (sound := told(b, b))
    assert "Mind" not in sound


def test_warnings_on_corrupted_images_are_said_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results(share=0.8).save(tmp_path / "a.json")
    replace(results(seed=50), warnings=("the model is random.",)).save(tmp_path / "b.json")
    assert main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.index("jpeg_compression") < told.index("warning on B: the model is random.") < told.index("clean: ")
    assert told.count("Mind the warnings on B.") == 2


def test_black_box_attacks_alone_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        name: write(tmp_path / f"{name}.json", [1, 0], attack) for name, attack in (("a", "square"), ("b", "pgd-5"))
    }
    assert main(["compare", str(files["a"]), str(files["a"])]) == 0
    told = " ".join(capsys.readouterr().out.split())
    note = "black-box attacks alone (square): no gradient of the model was followed"
    assert f"A: {note}" in told
    assert f"B: {note}" in told
    assert main(["compare", str(files["b"]), str(files["b"])]) == 0
    assert "black-box" not in capsys.readouterr().out
