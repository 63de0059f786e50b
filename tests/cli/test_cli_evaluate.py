"""``nuat evaluate`` on models, images and options that can go wrong, and on those that must not."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cli.cli_runs import TEST, CommandLine, arrays, files, table_rows, write_npz
from oracles import shorten_autoattack
from torch import Tensor

from nuat.attacks.catalogue import SUITES
from nuat.commands.evaluate import Evaluate, _state_file, attack_weights
from nuat.commands.subject import find_subject, settle_threat
from nuat.config import DataConfig, ThreatConfig
from nuat.data import load
from nuat.errors import InputError
from nuat.evaluation.results import Evaluation
from nuat.models import SmallCNN
from nuat.progress import TerminalReporter, terminal
from nuat.records.named_weights import fetch

MODELS = """
import numpy as np
import torch
from torch import nn


class Nearest(nn.Module):
    # the class whose template is nearest: linear in the image
    def __init__(self, classes, channels, change=lambda logits: logits):
        super().__init__()
        flat = np.random.default_rng(0).random((classes, channels * 30)).astype(np.float32)
        self.weight = nn.Parameter(torch.from_numpy(flat))
        self.change = change

    def forward(self, x):
        return self.change(2 * x.flatten(1) @ self.weight.T - self.weight.square().sum(dim=1))


def make(change=lambda logits: logits):
    return Nearest(CLASSES, CHANNELS, change)


def probabilities():
    return make(lambda logits: logits.softmax(dim=1))


def pair():
    return make(lambda logits: (logits, logits))


def nan():
    return make(lambda logits: logits * float("nan"))


def some_nan():
    return make(lambda logits: torch.where(torch.arange(len(logits))[:, None] == 3, torch.nan, logits))


def narrow():
    return make(lambda logits: logits[:, 1:])


def wider():
    return make(lambda logits: torch.cat([logits, logits.min(dim=1, keepdim=True).values - 1], dim=1))


def flat():
    return make(lambda logits: logits.detach())


def other_images():
    return nn.Sequential(nn.Flatten(), nn.Linear(7, CLASSES))


"""


def write_case(classes: int = 4, channels: int = 1, labels: type = np.int64, n: int = 23) -> tuple[str, Path]:
    """Write images of 5 x 6 around a template for each class, and the model that knows the templates."""
    Path("theirs.py").write_text(MODELS.replace("CLASSES", str(classes)).replace("CHANNELS", str(channels)))
    templates = np.random.default_rng(0).random((classes, channels * 30)).astype(np.float32)
    draw = np.random.default_rng(1)
    found: dict[str, Any] = {}
    for part, y in (("train", np.arange(classes)), ("test", np.arange(n) * 7 % classes)):
        other = templates[(y + 1) % classes]
        near = templates[y] + (other - templates[y]) * draw.uniform(0.1, 0.55, (len(y), 1))
        pixels = (255 * near).round().astype(np.uint8).reshape(-1, channels, 5, 6).transpose(0, 2, 3, 1)
        found |= {f"x_{part}": pixels, f"y_{part}": y.astype(labels)}
    np.savez("theirs.npz", **found)
    return "theirs.py:make", Path("theirs.npz")


def read(path: str) -> Evaluation:
    return Evaluation.from_json(json.loads(Path(path).read_text()))


@pytest.fixture
def case() -> tuple[str, ...]:
    """The beginning of a command on a stranger's model of four classes and 23 images."""
    write_case()
    return ("--data.path", "theirs.npz", "--json", "out.json")


def test_probabilities_are_warned_about(case: tuple[str, ...], nuat: CommandLine) -> None:
    ended = nuat("evaluate", "theirs.py:probabilities", *case, "--eps", "0.05", "--attacks", "clean,pgd-10")
    assert ended.code == 0, ended.err
    assert "warning: the model returns probabilities" in ended.out
    good = nuat("evaluate", "theirs.py:make", *case, "--eps", "0.05", "--attacks", "clean,pgd-10")
    assert (good.code, "warning" in good.out) == (0, False)


def test_attacks_that_need_a_missing_gradient_are_refused(case: tuple[str, ...], nuat: CommandLine) -> None:
    ended = nuat("evaluate", "theirs.py:flat", *case, "--eps", "0.05", "--attacks", "clean,pgd-10")
    assert ended.code == 2
    assert "error: pgd-10: gradients are needed, but the loss has no gradient in the image at all" in ended.err
    assert not Path("out.json").exists()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("pair", "the model must return logits [B, N] as one tensor; it returned tuple."),
        ("nan", "the model returns logits that are infinite or NaN on clean images"),
        ("some_nan", "the model returns logits that are infinite or NaN on clean images"),
        ("narrow", "the model returns 3 logits, but the images have 4 classes."),
        ("other_images", "the model fails on images of 1 x 5 x 6 (channels, height, width): "),
    ],
)
def test_models_that_cannot_be_evaluated(function: str, says: str, case: tuple[str, ...], nuat: CommandLine) -> None:
    assert says in nuat.refused("evaluate", f"theirs.py:{function}", *case, "--eps", "0.05", "--attacks", "clean,fgsm")


def test_a_model_with_more_logits_than_classes(case: tuple[str, ...], nuat: CommandLine) -> None:
    for function in ("make", "wider"):
        nuat.done(
            *("evaluate", f"theirs.py:{function}", *case[:2], "--json", f"{function}.json"),
            *("--eps", "0.05", "--attacks", "clean,pgd-3"),
        )
    assert [r.correct.tolist() for r in read("make.json").results] == [
        r.correct.tolist() for r in read("wider.json").results
    ]


def test_the_search_may_be_in_bf16(case: tuple[str, ...], nuat: CommandLine) -> None:
    nuat.done("evaluate", "theirs.py:make", *case, "--eps", "0.05", "--attacks", "pgd-3", "--search-precision", "bf16")
    assert read("out.json").search_precision == "bf16"


def test_the_search_may_be_compiled(case: tuple[str, ...], nuat: CommandLine) -> None:
    """A stranger's code is not, and a line says so."""
    ended = nuat.done("evaluate", "theirs.py:make", *case, "--eps", "0.05", "--attacks", "pgd-3", "--compile")
    assert "warning: attacks search without a compiled copy: only a copy with folded" in " ".join(ended.out.split())
    assert not read("out.json").compiled
    assert "Meant for GPUs" in nuat.done("evaluate", "--help-all").out


def test_a_compiled_search_keeps_its_batches_apart(tmp_path: Path) -> None:
    subject: Any = SimpleNamespace(folder=tmp_path, stem="best", code="")
    files = [_state_file(Evaluate(model="best", compile=compile_), subject) for compile_ in (False, True)]
    assert files[0] != files[1]


LINF = "(0, 1], such as 8/255 or 0.3"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--eps", "0"), f"threat.eps=0: expected a perturbation size in {LINF}"),
        (("--eps", "8"), "threat.eps=8: pixels are in [0, 1], so this is larger than any image. Did you mean 8/255?"),
        (("--eps", "-0.1"), f"threat.eps=-0.1: expected a perturbation size in {LINF}"),
        (("--eps", "nan"), "'nan' is not a number"),
        (("--eps", "0.1", "--pgd-alpha", "2"), "threat.pgd_alpha=2: pixels are in [0, 1]"),
        (("--eps", "0.1", "--n", "0"), "n=0: expected 1 to 23"),
        (("--eps", "0.1", "--n", "-3"), "n=-3: expected 1 to 23"),
        (("--eps", "0.1", "--n", "24"), "n=24: expected 1 to 23"),
        (("--eps", "0.1", "--batch-size", "0"), "batch_size=0"),
        (("--eps", "0.1", "--suite", "papr"), "'papr'"),
        (("--eps", "0.1", "--suite", "paper", "--aa", "slow"), "'slow'"),
        (("--eps", "0.1", "--norm", "L7"), "'L7'"),
        (("--eps", "8/255", "--norm", "L2"), "--eps=0.03137: a usual radius in Linf, but in L2 it hardly changes"),
        (("--eps", "0.1", "--also", "L2:8/255"), "--also=0.03137: a usual radius in Linf"),
        (("--eps", "0.1", "--also", "L2"), "threat.also=L2: expected balls such as L2:0.5,L1:12"),
        (("--eps", "0.1", "--also", "Linf:0.2"), "one ball a norm; there are Linf, Linf"),
        (("--eps", "0.1", "--surrogate", "theirs.py:make"), "--surrogate has no effect without transfer; give --black"),
        (("--norm", "L2", "--eps", "0"), "threat.eps=0: expected an L2 size > 0"),
        (("--norm", "L2", "--eps", "-1"), "threat.eps=-1: expected an L2 size > 0"),
        (
            ("--norm", "L2", "--eps", "0.5", "--attacks", "clean,cr"),
            "cr: norm='L2': CR is defined for Linf. Defined for L2: clean, fgsm",
        ),
        (("--eps", "0.1", "--search-precision", "tf32", "--device", "cpu"), "tf32 exists on CUDA GPUs alone"),
        (("--eps", "0.1", "--attacks", "clean", "--compile"), "--compile has no effect without an attack"),
        (("--eps", "0.1", "--aa", "fast"), "--aa fast has no effect without AutoAttack"),
        (("--eps", "0.1", "--aa", "alone", "--attacks", "clean,fgsm"), "--aa alone has no effect without AutoAttack"),
        (("--eps", "0.1", "--aa", "fast", "--attacks", "autoattack,autoattack-fast"), "each once"),
        (("--eps", "0.1", "--attacks", "clean,pgd-0"), "unknown attack 'pgd-0'"),
        (("--eps", "0.1", "--resume", "perhaps"), "'perhaps' is neither true nor false"),
        (("--eps", "0.1", "--seed"), "--seed"),
    ],
)
def test_options_that_cannot_be(options: tuple[str, ...], says: str, case: tuple[str, ...], nuat: CommandLine) -> None:
    if "--aa" in options:
        pytest.importorskip("pyautoattack")
    assert says in nuat.refused("evaluate", "theirs.py:make", *case, *options)


@pytest.mark.parametrize("stranger", [False, True])
def test_another_norm_needs_its_own_radius(stranger: bool, run: Path, nuat: CommandLine) -> None:
    """A run says what radius it is for, in Linf; of L2 it says nothing."""
    write_case()
    what = ("theirs.py:make", "--data.path", "theirs.npz") if stranger else (run,)
    assert "--eps" in nuat.refused("evaluate", *what, "--norm", "L2", "--attacks", "clean")


@pytest.mark.parametrize("given", [(), ("--pgd-alpha", "0.2"), ("--pgd_alpha=0.2",)])
def test_l2_is_evaluated_with_its_own_step(given: tuple[str, ...], run: Path, nuat: CommandLine) -> None:
    command = ("evaluate", run, "--norm", "L2", "--attacks", "clean,pgd-20", "--json", "out.json")
    ended = nuat.done(*command, "--eps", "1.5", *given)
    found = read("out.json")
    assert (found.norm, found.eps) == ("L2", 1.5)
    assert found.results[1].settings["alpha"] == pytest.approx(0.2 if given else 0.15)
    assert "L2 eps 1.5" in ended.out
    small = nuat.done(*command[:-1], "small.json", "--eps=0.1")
    assert "warning" not in small.out
    assert found.accuracy("pgd-20") < read("small.json").accuracy("pgd-20") <= found.accuracy("clean")


def test_an_empty_test_set(nuat: CommandLine, run: Path) -> None:
    write_case()
    nothing = arrays()
    write_npz(Path("empty.npz"), x_test=nothing["x_test"][:0], y_test=nothing["y_test"][:0])
    for what in ("theirs.py:make", run):
        message = nuat.refused("evaluate", what, "--data.path", "empty.npz", "--eps", "0.1", "--attacks", "clean")
        assert "empty.npz: x_test is empty" in message


# suites


class Recorded(InputError):  # noqa: N818 - it is no error
    """Ends a command in the place of its attacks."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The line-ups that evaluate() is called with; it attacks nothing."""
    pytest.importorskip("pyautoattack")
    found: list[tuple[str, ...]] = []

    def record(model: object, images: object, attacks: tuple[str, ...], **settings: object) -> None:
        found.append(tuple(attacks))
        raise Recorded("recorded")

    monkeypatch.setattr("nuat.commands.evaluate.evaluate_model", record)
    return found


@pytest.mark.parametrize(("aa", "name"), [("full", ""), ("fast", "-fast"), ("alone", "-alone")])
@pytest.mark.parametrize("suite", ["paper", "standard", "full"])
def test_suites_and_how_far_autoattack_goes(
    suite: str, aa: str, name: str, run: Path, nuat: CommandLine, asked: list[tuple[str, ...]]
) -> None:
    assert nuat("evaluate", run, "--suite", suite, "--aa", aa).err == "nuat: error: recorded\n"
    expected = {
        "paper": ("clean", "fgsm", "pgd-20", "pgd-100", "pgd-500", "gama-100"),
        "standard": ("clean",),
        "full": SUITES["full"][:-1],
    }[suite]
    assert asked == [(*expected, f"autoattack{name}")]


def test_the_full_suite_has_every_attack_of_the_paper_suite_and_each_kind_besides() -> None:
    assert set(SUITES["paper"]) < set(SUITES["full"])
    kinds = {name.rstrip("0123456789").rstrip("-") for name in SUITES["full"]}
    assert kinds >= {
        *("noise", "mi-fgsm", "margin-pgd", "targeted", "multi-targeted", "gama-fw", "gama-mt", "adaptive"),
        *("adaptive-same-class", "adaptive-eot", "adaptive-nuclear", "adaptive-logit", "autoattack"),
    }


def test_what_a_norm_does_not_have_is_left_out_aloud(
    run: Path, nuat: CommandLine, asked: list[tuple[str, ...]]
) -> None:
    ended = nuat("evaluate", run, "--suite", "paper", "--norm", "L2", "--eps", "0.5")
    assert "not defined for L2, so left out" not in ended.out
    assert asked == [SUITES["paper"]]
    linf = nuat("evaluate", run, "--suite", "paper")
    assert "left out" not in linf.out
    ended = nuat("evaluate", run, "--suite", "full", "--norm", "L2", "--eps", "0.5", "--aa", "fast")
    left = ended.out.partition("left out: ")[2].split("\n")[0].split(", ")
    assert set(left) | set(asked[-1]) == {*SUITES["full"], "autoattack-fast"} - {"autoattack"}
    assert not set(left) & set(asked[-1])
    assert left == ["mi-fgsm-100"]


@pytest.mark.slow
def test_the_paper_suite_in_l2_from_end_to_end(
    case: tuple[str, ...], nuat: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_autoattack(monkeypatch)
    options = ("--suite", "paper", "--norm", "L2", "--eps", "0.4", "--aa", "fast", "--n", "none", "--batch-size", "10")
    ended = nuat.done("evaluate", "theirs.py:make", *case, *options)
    found = read("out.json")
    names = ["clean", "fgsm", "pgd-20", "pgd-100", "pgd-500", "gama-100", "autoattack-fast"]
    assert [result.name for result in found.results] == names
    assert (found.n, found.norm) == (23, "L2")
    assert found.results[-1].settings["line_up"] == ["apgd-ce", "apgd-t"]
    assert found.accuracy("autoattack-fast") <= found.accuracy("pgd-500") < found.accuracy("clean")
    assert list(table_rows(ended.out)) == [*names[:-1], "autoattack-fast *", "worst case"]
    assert "upper bound" in ended.out


# shapes, classes, labels


@pytest.mark.parametrize(
    ("classes", "channels", "labels"),
    [
        *((2, 1, kind) for kind in (np.uint8, np.int16, np.int32, np.int64)),
        (2, 3, np.uint16),
        *((1000, 3, kind) for kind in (np.int16, np.int32, np.int64)),
        (1000, 1, np.uint16),
    ],
)
def test_channels_classes_and_label_types(classes: int, channels: int, labels: type, nuat: CommandLine) -> None:
    """23 images of 5 x 6 in batches of 10; a linear model, so PGD finds the worst case of two classes."""
    subject, images = write_case(classes, channels, labels)
    shown: list[list[list[bool]]] = []
    for kind in (labels, np.int64):
        write_case(classes, channels, kind)
        nuat.done(
            *("evaluate", subject, "--data.path", images, "--eps", "0.05", "--pgd-alpha", "0.01", "--n", "none"),
            *("--attacks", "clean,fgsm,pgd-10,gama-5", "--batch-size", "10", "--json", "out.json"),
        )
        found = read("out.json")
        shown.append([result.correct.tolist() for result in found.results])
    assert shown[0] == shown[1]
    assert found.n == 23
    assert found.accuracy("pgd-10") < found.accuracy("clean")
    assert found.accuracy("clean") > 0.5
    if classes == 2:
        with np.load("theirs.npz") as file:
            x = file["x_test"].transpose(0, 3, 1, 2).reshape(23, -1) / 255
            y = file["y_test"].astype(int)
        weight = np.random.default_rng(0).random((2, channels * 30)).astype(np.float32).astype(float)
        difference = 2 * (weight[y] - weight[1 - y])
        offset = np.square(weight[1 - y]).sum(axis=1) - np.square(weight[y]).sum(axis=1)
        worst = np.where(difference > 0, (x - 0.05).clip(min=0), (x + 0.05).clip(max=1))
        margins = (difference * worst).sum(axis=1) + offset
        assert np.abs(margins).min() > 1e-4  # no verdict hangs on a rounding
        assert shown[0][2] == (margins > 0).tolist()


# interruptions


class Passes:
    """Counts the forward passes of the model, and raises KeyboardInterrupt at one of them."""

    def __init__(self) -> None:
        self.count = 0
        self.stop_at = 0


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    found, forward = Passes(), SmallCNN.forward

    def counted(self: SmallCNN, x: Tensor) -> Tensor:
        found.count += 1
        if found.count == found.stop_at:
            raise KeyboardInterrupt
        return forward(self, x)

    monkeypatch.setattr(SmallCNN, "forward", counted)
    return found


# passes of the inspection: two alike, one between pixels, two in one place, four parts, a gradient, a step along it;
# then whether there is one
LOOK = 12
# the check of the logits; in three batches clean, pgd-2 and gama-2; whether the model has changed
WHOLE = 1 + LOOK + 3 * (1 + 3 + 4) + 1


def interrupted(
    command: tuple[object, ...], passes: Passes, nuat: CommandLine, at: int = 15 + LOOK
) -> tuple[str, set[str]]:
    """Interrupt a command, and return what it says and the files that it leaves."""
    before = set(files(Path.cwd()))
    passes.count, passes.stop_at = 0, at
    ended = nuat(*command)
    passes.count, passes.stop_at = 0, 0
    assert ended.code == 130
    assert "Traceback" not in ended.err
    return ended.err, set(files(Path.cwd())) - before


@pytest.mark.slow
@pytest.mark.parametrize("resume", ["true", "false"])
def test_ctrl_c_keeps_what_is_finished_and_resume_says_whether_it_is_used(
    resume: str, run: Path, nuat: CommandLine, passes: Passes
) -> None:
    command = ("evaluate", run, "--attacks", "clean,pgd-2,gama-2", "--n", TEST, "--batch-size", 10, "--json")
    nuat.done(*command, "undisturbed.json")
    whole = passes.count
    assert whole <= WHOLE
    said, left = interrupted((*command, "result.json"), passes, nuat)
    (state,) = left
    assert state in said
    assert "Continue with: the same command" in said
    nuat.done(*command, "result.json", "--resume", resume)
    if resume == "true":
        assert passes.count <= whole - 7  # the clean pass of three batches, and PGD on one of them at least
    else:
        assert passes.count == whole
    assert not Path(state).exists()
    rows = [json.loads(Path(f"{name}.json").read_text())["results"] for name in ("undisturbed", "result")]
    for row in (row for part in rows for row in part):
        del row["seconds"]
    assert rows[0] == rows[1]


def test_ctrl_c_without_resume_does_not_advise_to_start_over(run: Path, nuat: CommandLine, passes: Passes) -> None:
    """The same command would throw away what it has just kept."""
    command = ("evaluate", run, "--attacks", "clean,pgd-2,gama-2", "--batch-size", 10, "--resume", "false")
    said, (state,) = interrupted(command, passes, nuat)
    assert state in said
    assert "--resume" in said


def test_an_interruption_before_anything_is_finished_leaves_nothing(
    run: Path, nuat: CommandLine, passes: Passes
) -> None:
    command = ("evaluate", run, "--attacks", "clean,pgd-2", "--batch-size", 10)
    assert interrupted(command, passes, nuat, at=2)[1] == set()


@pytest.mark.slow
def test_other_settings_have_a_state_of_their_own(run: Path, nuat: CommandLine, passes: Passes) -> None:
    command = ("evaluate", run, "--attacks", "clean,pgd-2", "--batch-size", 10, "--json", "out.json")
    _, (state,) = interrupted((*command, "--eps", "0.2"), passes, nuat, at=6 + LOOK)
    for other in ((), ("--norm", "L2", "--eps", "0.2"), ("--seed", "1", "--eps", "0.2")):
        nuat.done(*command, *other)
        assert Path(state).exists()
    nuat.done(*command, "--eps", "0.2")
    assert not Path(state).exists()


def test_a_file_that_was_edited_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights may be the same and the function another: what was begun belongs to the old one."""
    monkeypatch.chdir(tmp_path)
    Path("edited.py").write_text("import torch\n\n\ndef make():\n    return torch.nn.Flatten()\n")
    arguments = ["edited.py:make", "--eps", "0.1", "--data.path", "images.npz"]
    before = find_subject(arguments).code
    Path("edited.py").write_text("import torch\n\n\ndef make():\n    return torch.nn.Flatten(1)\n")
    assert find_subject(arguments).code not in ("", before)


@pytest.mark.parametrize(
    ("asked", "given", "alpha"),
    [
        (ThreatConfig(eps=0.1, pgd_alpha=0.01), ["--eps", "0.1"], 0.1 / 30),
        (ThreatConfig(eps=0.1, pgd_alpha=0.02), ["--eps", "0.1", "--pgd-alpha", "0.02"], 0.02),
        (ThreatConfig(eps=0.3, pgd_alpha=0.01), [], 0.01),
        (ThreatConfig(norm="L2", eps=2.0, pgd_alpha=0.01), ["--norm", "L2", "--eps", "2"], 0.2),
    ],
)
def test_the_step_keeps_its_share_of_the_radius(asked: ThreatConfig, given: list[str], alpha: float) -> None:
    settled = settle_threat(asked, ThreatConfig(eps=0.3, pgd_alpha=0.01), given)
    assert settled.pgd_alpha == pytest.approx(alpha)
    assert (settled.norm, settled.eps) == (asked.norm, asked.eps)


def test_weights_are_attacked_on_images_that_fit_alone(tmp_path: Path) -> None:
    dataset = load(DataConfig(path=write_npz(tmp_path / "a.npz"), validation=0))
    weights, state = fetch("quickstart") / "best.safetensors", tmp_path / "state.json"
    with pytest.raises(InputError, match=r"best\.safetensors takes 1 x \(28, 28\) images"):
        attack_weights(weights, dataset, Evaluate(model="a"), state, TerminalReporter(terminal()), again="")
