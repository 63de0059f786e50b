"""Records go to JSON and back, and figures are drawn from them: the same bytes, the record's numbers, gaps shown."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from nuat.analysis import KINDS, Record, read
from nuat.analysis.confusion import AttackConfusion, Confusion
from nuat.analysis.cost import Cost, CostPoint
from nuat.analysis.curves import Curve
from nuat.analysis.eps_curve import EpsCurve
from nuat.analysis.lambda_sweep import LambdaPoint, LambdaSweep
from nuat.analysis.loss_surface import LossSurface, ModelSurface
from nuat.analysis.nuclear_profile import ModelProfile, NuclearProfile
from nuat.analysis.record import Subject
from nuat.analysis.steps_curve import StepsCurve
from nuat.analysis.training_curves import Alarm, RunCurves, TrainingCurves
from nuat.errors import InputError
from nuat.report import plots
from nuat.report.plots import labels, style

ABOUT: dict[str, Any] = {
    "n": 8, "seed": 0, "eps": 8 / 255, "images_sha256": "a" * 64, "hardware": "a machine",
    "versions": {"torch": "2", "pyautoattack": None},
}  # fmt: skip
ONE, TWO = (Subject(name=name, weights_sha256="0" * 64) for name in ("<one> & only", "two"))
GRID = tuple(tuple(1.0 + a * a + b for b in (-0.1, 0.0, 0.1)) for a in (-0.1, 0.0, 0.1))
CURVES = (Curve(subject=ONE, correct=("11111111", "11110000")), Curve(subject=TWO, correct=("11111110", "10000000")))


def point(name: str, accuracy: float | None, seconds: float | None, passes: int | None) -> CostPoint:
    n = None if accuracy is None else 100
    return CostPoint(method=name, seed=0, accuracy=accuracy, n=n, seconds=seconds, passes=passes, hardware="a machine")


def attack(norm: str) -> AttackConfusion:
    return AttackConfusion(norm=norm, matrix=((3, 1), (0, 4)), entropy=(0.5, 0.25), mean_entropy=0.375, accuracy=0.875)


RECORDS: dict[str, Record] = {
    record.kind: record
    for record in (
        LossSurface(
            **ABOUT, positions=(1, 2), distances=(-0.1, 0.0, 0.1), clip=False, within=0.01,
            models=tuple(
                ModelSurface(subject=s, loss=GRID, roughness=(0.5, 1.5)) for s in (ONE, TWO)
            ),
        ),
        Confusion(
            **ABOUT, subject=ONE, classes=("cat", "dog"), clean_accuracy=1.0, batch_size=4, alpha=4 / 255,
            attacks=(attack("nuclear"), attack("frobenius")),
        ),
        NuclearProfile(
            **ABOUT, steps=5, pgd_alpha=2 / 255, batch_size=4, alpha=4 / 255,
            models=(
                ModelProfile(subject=ONE, robust_images=5, robust=(0.1, 0.2, 0.3), non_robust=()),
                ModelProfile(subject=TWO, robust_images=4, robust=(0.1, 0.2), non_robust=(0.4, 0.5)),
            ),
        ),
        Cost(
            attack="pgd-100", images="test", eps=0.3,
            points=(
                point("A", 0.2, 10.0, 10**6), point("B", 0.5, 20.0, 3 * 10**6), point("C", 0.4, 40.0, None),
                point("D", None, 30.0, 10**6),
            ),
        ),
        LambdaSweep(
            attack="pgd-100", images="test", eps=0.3,
            points=(
                LambdaPoint(series="", seed=0, lam=1.0, clean=0.9, robust=0.5, n_clean=100, n_robust=100),
                LambdaPoint(series="", seed=1, lam=1.0, clean=0.9, robust=0.7, n_clean=100, n_robust=100),
                LambdaPoint(series="", seed=0, lam=2.0, clean=0.8, robust=None, n_clean=100, n_robust=None),
            ),
        ),
        EpsCurve(**ABOUT, radii=(0.0, 8 / 255), steps=5, models=CURVES),
        StepsCurve(**ABOUT, steps=(0, 10), pgd_alpha=2 / 255, models=CURVES),
        TrainingCurves(
            runs=(
                RunCurves(
                    name="ours", seed=0, epochs=(1, 2, 3), best_epoch=2, switches=(0, 2, 0),
                    series={
                        "lr": (0.1, 0.2, 0.1), "train.loss": (2.0, None, 1.0), "train.lam": (0.0, 1.0, 2.0),
                        "train.two_step": (0.0, 0.5, 0.0), "validation.live.pgd": (0.1, None, 0.3),
                    },
                    alarms=(Alarm(epoch=2, monitor="overfitting", message="beware"),),
                ),
            )
        ),
    )
}  # fmt: skip


def texts(figure: Figure) -> str:
    return "\n".join(re.findall(r">([^<>]+)</text>", style.to_svg(figure)))


def drawn(kind: str) -> tuple[Figure, list[Axes]]:
    figure = plots.draw([RECORDS[kind]])
    return figure, figure.axes


def test_every_kind_has_a_record_and_a_figure() -> None:
    assert set(RECORDS) == set(KINDS) == set(plots.DRAW)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_comes_back_from_its_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    RECORDS[kind].save(path)
    again = read(path)
    assert again == RECORDS[kind]
    assert type(again) is KINDS[kind]
    assert json.loads(path.read_text())["kind"] == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_small_and_the_same_bytes_again(kind: str) -> None:
    first, second = (style.to_svg(plots.draw([RECORDS[kind]])) for _ in range(2))
    assert first == second
    assert len(first) < 200_000
    assert "<dc:date>" not in first
    assert "<text" in first
    assert "<one>" not in first  # names are escaped


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_files_are_written_in_each_format(suffix: str, tmp_path: Path) -> None:
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    files = [tmp_path / f"{name}.{suffix}" for name in ("a", "b")]
    for file in files:
        style.save(plots.draw([RECORDS["lambda-sweep"]]), file)
    assert files[0].read_bytes().startswith(begins[suffix])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    odd = dataclasses.replace(RECORDS["cost"], eps=math.nan)
    odd.save(tmp_path / "r.json")
    again = read(tmp_path / "r.json")
    assert isinstance(again, Cost)
    assert again.eps is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": "other"}, "not a record of 'nuat analyse'"),
        ({"format": 99}, "has format 99"),
        ({"attack": 3}, "cost.attack: 3 is not"),
        ({"attack": True}, "cost.attack: True is not"),
        ({"points": {}}, "cost.points: {} is not"),
        ({"points": [{"method": "A"}]}, "cost.points: its fields"),
        ({"more": 1}, "they differ in .'more'."),
    ],
)
def test_a_wrong_record_is_said(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**RECORDS["cost"].to_json(), **change}))
    with pytest.raises(InputError, match=told) as refused:
        read(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"cost"'])
def test_what_is_no_record_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=r"r\.json: not"):
        read(tmp_path / "r.json")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.json")


def test_one_colour_scale_for_all_surfaces() -> None:
    record = RECORDS["loss-surface"]
    assert isinstance(record, LossSurface)
    high = dataclasses.replace(record.models[1], loss=tuple(tuple(9 * v for v in row) for row in GRID))
    figure = plots.draw([dataclasses.replace(record, models=(record.models[0], high))])
    lowest, highest = min(map(min, GRID)), 9 * max(map(max, GRID))
    meshes = [
        made
        for axis in figure.axes
        for made in axis.collections
        if hasattr(made, "norm") and made.cmap.name == "viridis"
    ]
    scales = {(made.norm.vmin, made.norm.vmax) for made in meshes if made.get_array() is not None}
    assert scales == {(lowest, highest)}
    told = texts(figure)
    assert told.count("roughness 1.00 (0.75\u20131.25)") == 2


def test_the_matrix_shows_shares_of_the_class() -> None:
    figure, axes = drawn("confusion")
    shown = [text.get_text() for text in axes[0].texts]
    assert shown == ["75", "25", "100"]
    assert "accuracy 87.5 %" in texts(figure)
    assert "mean entropy 0.38 nats" in texts(figure)


def test_a_group_without_norms_is_missing_not_zero() -> None:
    figure, axes = drawn("nuclear-profile")
    assert "not measured: 3 images" in texts(figure)
    assert {"5", "4"} <= {text.get_text() for text in axes[0].texts}  # images of the groups with norms
    assert len(axes[0].patches) == 3
    other = dataclasses.replace(RECORDS["nuclear-profile"], batch_size=5)
    with pytest.raises(InputError, match="batches of 4 and 5"):
        plots.draw([RECORDS["nuclear-profile"], other])


def test_the_cost_shows_the_front_and_what_is_missing() -> None:
    figure, (left, right) = drawn("cost")
    told = texts(figure)
    assert "Not measured under PGD-100: D." in told
    assert "Time or passes not recorded: C." in told
    front = [line for line in left.lines if line.get_label().startswith("_child") and len(line.get_xdata()) == 4]
    assert [(list(line.get_xdata())[:3], list(line.get_ydata())) for line in front] == [
        ([10.0, 20.0, 20.0], pytest.approx([20.0, 20.0, 50.0, 50.0]))
    ]
    assert {text.get_text() for text in left.texts} - {""} == {"A", "B", "C"}
    assert {text.get_text() for text in right.texts} - {""} == {"A", "B"}


def test_the_small_print_says_how_many_seeds_a_point_is_of() -> None:
    seeds = tuple(dataclasses.replace(point("A", a, 10.0, 10**6), seed=i) for i, a in enumerate((0.5, None, None)))
    figure = plots.draw([dataclasses.replace(RECORDS["cost"], points=seeds, attack="gama-100")])
    assert "A 1 of 3 seeds" in texts(figure)
    assert "accuracy under GAMA-PGD-100 (%)" in texts(figure)
    assert "in the worst case" in texts(plots.draw([dataclasses.replace(RECORDS["cost"], attack="worst-case")]))


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_leaves_the_figure(kind: str) -> None:
    record = RECORDS[kind]
    if isinstance(record, LossSurface):
        record = dataclasses.replace(record, models=record.models[:1])
    figure = plots.draw([record])
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    edge = figure.bbox
    shown = [text for axis in figure.axes for text in (axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts)]
    shown += [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    shown += [text for text in figure.get_children() if isinstance(text, Text)]
    for text in shown:
        box = text.get_window_extent(canvas.get_renderer())
        if text.get_text() and text.get_visible() and box.width:
            assert box.x0 >= -1, text
            assert box.x1 <= edge.width + 1, text
            assert box.y0 >= -1, text
            assert box.y1 <= edge.height + 1, text


def test_small_print_keeps_its_words() -> None:
    lines = style.wrapped(["one two three " * 20, "short"], 2.0)
    assert " ".join(lines).split() == ["one", "two", "three"] * 20 + ["short"]
    assert len(lines) > 5
    assert style.wrapped(["a line of its own", ""], 7.0) == ["a line of its own", ""]


def test_names_beside_points_do_not_overlap() -> None:
    crowd = tuple(point(f"method {i}", 0.5 + 0.01 * (i % 3), 10.0 + 0.3 * i, 10**6 + 10**5 * i) for i in range(12))
    figure = plots.draw([dataclasses.replace(RECORDS["cost"], points=crowd)])
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axis in figure.axes:
        boxes = [t.get_window_extent(canvas.get_renderer()) for t in axis.texts if t.get_text()]
        assert len(boxes) == 12
        assert all(labels._overlap(a, b) < 1.0 for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_lambda_without_a_measurement_has_no_point() -> None:
    _, axes = drawn("lambda-sweep")
    lines = {tuple(c.lines[0].get_xdata()): list(c.lines[0].get_ydata()) for c in axes[0].containers}
    assert lines == {(1.0, 2.0): pytest.approx([90.0, 80.0]), (1.0,): pytest.approx([60.0])}


@pytest.mark.parametrize(("kind", "places"), [("eps-curve", [0.0, 8.0]), ("steps-curve", [0, 10])])
def test_curves_show_the_records_accuracies(kind: str, places: list[float]) -> None:
    _, axes = drawn(kind)
    lines = {line.get_label(): line for line in axes[0].lines}
    assert list(lines["<one> & only"].get_xdata()) == pytest.approx(places)
    assert list(lines["<one> & only"].get_ydata()) == [100.0, 50.0]
    assert list(lines["two"].get_ydata()) == [87.5, 12.5]


def test_an_epoch_that_was_not_measured_is_a_gap() -> None:
    figure, axes = drawn("training")
    values = [list(line.get_ydata()) for axis in axes for line in axis.lines]
    assert any(v[0] == 2.0 and math.isnan(v[1]) and v[2] == 1.0 for v in values if len(v) == 3)
    assert any(v[0] == 10.0 and math.isnan(v[1]) for v in values if len(v) == 3)
    assert "alarm: overfitting" in texts(figure)
    assert "(2 switches)" in texts(figure)


def test_records_of_two_kinds_share_no_figure() -> None:
    with pytest.raises(InputError, match="of cost, training"):
        plots.draw([RECORDS["cost"], RECORDS["training"]])
    with pytest.raises(InputError, match="of none"):
        plots.draw([])
    with pytest.raises(InputError, match="cannot share a figure"):
        plots.draw([RECORDS["cost"], dataclasses.replace(RECORDS["cost"], eps=0.1)])


def test_records_of_one_kind_are_drawn_together() -> None:
    figure = plots.draw([RECORDS["eps-curve"], RECORDS["eps-curve"]])
    assert (
        len([line for line in figure.axes[0].lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]) == 4
    )
