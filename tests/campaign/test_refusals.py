"""Campaign files that are refused: each with one line that says what is wrong, and where."""

import re
from pathlib import Path
from typing import Any

import pytest
from campaign.campaign_runs import FEW, FOUR, MAIN, NORMAL, NUAT, SMALL, plan, toml

from nuat.campaign import load
from nuat.errors import InputError

ROW = {"recipe": NORMAL}


def refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        plan(text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("small.toml: ")
    return message.removeprefix("small.toml: ")


@pytest.mark.parametrize(
    ("text", "where", "nearest"),
    [
        (toml(ROW, sedes=[0]), "unknown key 'sedes'", "'seeds'"),
        (toml(ROW, suites=({**MAIN, "atacks": ["clean"]},)), "suite 1: unknown key 'atacks'", "'attacks'"),
        (toml(ROW, {**ROW, "seed": [1]}), "row 2: unknown key 'seed'", "'seeds'"),
        (toml({"recipe": "nuat-mnist-small-cn"}), "row 1: unknown recipe 'nuat-mnist-small-cn'", f"'{NUAT}'"),
        (toml({**ROW, "set": {"model.wdith": 8}}), "row 1: Unrecognized options: --model.wdith=8", "--model.width"),
        (toml(ROW, common={**SMALL, "data.pth": "x"}), "row 1: Unrecognized options: --data.pth=x", "--data.path"),
        (toml(ROW, suites=({**MAIN, "attacks": ["gamma-100"]},)), "row 1: unknown attack 'gamma-100'", "'gama-100'"),
        (toml(ROW, table="2-mnst"), "unknown table '2-mnst'", "'2-mnist'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(text: str, where: str, nearest: str) -> None:
    message = refused(text)
    assert message.startswith(where)
    assert f"Did you mean {nearest}?" in message


@pytest.mark.parametrize("name", ["help", "h", "out", "resume", "", "a b", "a=b", "tyro-print-completion"])
def test_what_is_no_setting_is_no_option_either(name: str) -> None:
    assert refused(toml({**ROW, "set": {name: "1"}})).startswith(f"row 1: Unrecognized options: --{name}=1")


def test_a_value_that_looks_like_an_option_is_a_value() -> None:
    assert "--epochs" in refused(toml({**ROW, "set": {"epochs": "--help"}}))


@pytest.mark.parametrize("name", ["seed", "evaluation.n", "evaluation.attacks"])
@pytest.mark.parametrize("where", ["campaign", "row", "command line"])
def test_what_the_seeds_and_suites_decide_cannot_be_set(name: str, where: str) -> None:
    settings = {name: "1"}
    row = {**ROW, "set": settings} if where == "row" else ROW
    common = {**SMALL, **settings} if where == "campaign" else SMALL
    over = tuple(settings.items()) if where == "command line" else ()
    with pytest.raises(InputError, match=rf"row 1: {re.escape(name)} has no effect here; the seeds and the suites"):
        plan(toml(row, common=common), settings=over)


@pytest.mark.parametrize(
    "rows",
    [
        ({"recipe": NORMAL}, {"recipe": NUAT}, {"recipe": NORMAL, "label": "again"}),
        ({"recipe": NORMAL, "seeds": [0, 1]}, {"recipe": NORMAL, "seeds": [2, 0]}),
        ({"recipe": NORMAL, "set": {"epochs": 3}}, {"recipe": NORMAL, "set": {"epochs": 3}}),
    ],
)
def test_a_row_that_is_there_twice(rows: tuple[dict[str, Any], ...]) -> None:
    assert re.match(rf"the row {NORMAL}\S*/seed-0 is there twice; ", refused(toml(*rows)))


def test_a_setting_that_is_there_twice() -> None:
    doubled = {"data.train-limit": 30, "data": {"train_limit": 60}}
    assert refused(toml({**ROW, "set": doubled})) == "row 1: set names data.train-limit twice; leave one out."


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1], [1.5], [True], ["0"], 0, "0,1", [[0]]])
@pytest.mark.parametrize("level", ["campaign", "suite", "row"])
def test_bad_seeds(seeds: Any, level: str) -> None:
    text = {
        "campaign": toml(ROW, seeds=seeds),
        "suite": toml(ROW, suites=({**MAIN, "seeds": seeds},)),
        "row": toml({**ROW, "seeds": seeds}),
    }[level]
    where = "suite 1" if level == "suite" else "row 1"
    message = refused(text)
    assert message.startswith(f"{where}: seeds=")
    assert "expected different whole numbers of at least 0" in message


def test_a_seed_that_no_generator_takes() -> None:
    for bad in (-1, 2**63):
        with pytest.raises(InputError, match=f"seed={bad}: expected a seed from 0"):
            plan(seeds=(bad,))


@pytest.mark.parametrize("n", [0, -5, 1.5, True, "ten", [10]])
def test_bad_n(n: Any) -> None:
    message = refused(toml(ROW, suites=(MAIN, {**FEW, "n": n})))
    assert message.startswith(f"suite 2: n={n!r}: expected a number of images of at least 1")


@pytest.mark.parametrize("images", ["train", "", 3, ["test"]])
def test_bad_images(images: Any) -> None:
    assert refused(toml(ROW, suites=({**MAIN, "images": images},))).startswith(f"suite 1: images={images!r}: expected")


def test_validation_images_need_some() -> None:
    text = toml({**ROW, "set": {"data.validation": 0}}, suites=({**MAIN, "images": "validation"},))
    assert refused(text) == "row 1: a suite attacks validation images, but data.validation is 0."


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", ".hidden", "-x", "main.partial", 3, None])
def test_a_suites_name_names_a_file(name: Any) -> None:
    suite = {key: given for key, given in {**MAIN, "name": name}.items() if given is not None}
    assert refused(toml(ROW, suites=(suite,))).startswith(f"suite 1: name={name!r}: ")


def test_two_suites_of_one_name() -> None:
    assert refused(toml(ROW, suites=(MAIN, {**FEW, "name": "main"}))).startswith("two suites have one name")


@pytest.mark.parametrize("attacks", ["clean", [1], 3, {"clean": 1}, None])
def test_attacks_are_a_list_of_names(attacks: Any) -> None:
    suite = {key: given for key, given in {**MAIN, "attacks": attacks}.items() if given is not None}
    assert refused(toml(ROW, suites=(suite,))).startswith(f"suite 1: attacks={attacks!r}: expected a list such as")


@pytest.mark.parametrize("attacks", [[], ["clean", "clean"], ["worst-case"], ["pgd-0"], ["PGD-20"]])
def test_attacks_that_cannot_be_run(attacks: list[str]) -> None:
    assert re.match(r"row 1: (attacks=|unknown attack)", refused(toml(ROW, suites=({**MAIN, "attacks": attacks},))))


@pytest.mark.parametrize("missing", ["row", "suite"])
def test_a_campaign_needs_rows_and_suites(missing: str) -> None:
    text = toml(ROW, suites=()) if missing == "suite" else toml()
    assert refused(text) == f"needs one or more [[{missing}]] tables."
    assert refused(text.replace("set", f"{missing} = 3\nset", 1)) == f"needs one or more [[{missing}]] tables."
    assert refused(f"{missing} = []\n{text}") == f"needs one or more [[{missing}]] tables."


def test_an_empty_file() -> None:
    assert refused("") == "needs one or more [[suite]] tables."


@pytest.mark.parametrize("row", [{"label": "NuAT"}, {"recipe": 3}, {"recipe": NORMAL, "label": 3}])
def test_a_row_needs_a_recipe_and_a_label_that_is_text(row: dict[str, Any]) -> None:
    assert refused(toml(row)).startswith("row 1: needs a recipe")


@pytest.mark.parametrize("settings", [3, "epochs=3", ["epochs", 3]])
def test_a_set_is_a_table(settings: Any) -> None:
    assert refused(toml({**ROW, "set": settings})).startswith(f"row 1: set={settings!r}: expected settings such as")
    assert refused(toml(ROW, common=settings)).startswith(f"set={settings!r}: expected settings such as")


def test_a_table_is_the_name_of_one() -> None:
    assert refused(toml(ROW, table=2)) == "table=2: expected the name of a table of the paper."


@pytest.mark.parametrize("text", ["[[row]", "recipe: nuat", '{"row": []}', FOUR + "\nseeds = [0]\nseeds = [0]"])
def test_what_is_not_toml(text: str) -> None:
    assert refused(text).startswith("not TOML: ")


def test_a_value_that_its_setting_refuses() -> None:
    assert refused(toml({**ROW, "set": {"threat.eps": 8}})).startswith("row 1: threat.eps=8: ")
    assert refused(toml({**ROW, "set": {"threat.eps": 8}})).endswith("Did you mean 8/255?")


@pytest.mark.parametrize(
    ("threat", "reason"),
    [
        ("L2", ""),
        ("L2=0.5", ""),
        (["L2:0.5"], ""),
        ("L3:0.5", r" \(norm='L3': expected one of"),
        ("Linf:8", r" \(threat.eps=8: .* Did you mean 8/255\?\)"),
        ("L2:0.5,L2:1", r" \(threat.also=.*one ball a norm"),
        ("L2:8/255", r" \(L2=0.03137: a usual radius in Linf"),
        ("Linf:8/255,L1:0.3", r" \(L1=0.3: a usual radius in Linf"),
    ],
)
def test_balls_of_a_suite_that_cannot_be(threat: object, reason: str) -> None:
    message = refused(toml(ROW, suites=({**MAIN, "threat": threat},)))
    assert re.match(rf"suite 1: threat={re.escape(repr(threat))}: expected balls such as .*{reason}", message)


def test_an_attack_that_a_ball_of_the_suite_lacks() -> None:
    suite = {**MAIN, "attacks": ["clean", "mi-fgsm-10"], "threat": "Linf:0.1,L2:0.5"}
    assert refused(toml(ROW, suites=(suite,))).startswith("row 1: L2:mi-fgsm-10: norm='L2': MIFGSM is defined for Linf")


def test_a_binary_file() -> None:
    with pytest.raises(InputError, match=r"^images\.npz: cannot be read as text \(.*\)\.$"):
        load("images.npz")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InputError) as caught:
        load("mnist-smal")
    assert str(caught.value).startswith("no campaign 'mnist-smal' and no such file. Did you mean 'mnist-small'?")
    assert "table-1a" in str(caught.value)
    Path("folder.toml").mkdir()
    with pytest.raises(InputError, match=r"no campaign 'folder\.toml' and no such file"):
        load("folder.toml")


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    plan()
    Path("marked.toml").write_text("\ufeff" + Path("small.toml").read_text(), encoding="utf-8")
    assert [row.name for row in load("marked.toml").rows] == [row.name for row in load("small.toml").rows]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"a = {'[' * 5000}{']' * 5000}", "deep.toml: nested too deeply for a campaign"),
        (f"seeds = [{'9' * 5000}]", "deep.toml: not TOML: Exceeds the limit"),
    ],
)
def test_a_file_that_no_reader_takes_is_one_line(text: str, told: str) -> None:
    Path("deep.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        load("deep.toml")
    assert str(caught.value).startswith(told)
    assert len(str(caught.value).splitlines()) == 1


def test_a_row_whose_folder_no_file_system_takes_is_refused() -> None:
    names = {"data.path": "images.npz", "model.weights": "w" * 250 + ".safetensors"}
    with pytest.raises(InputError, match=r"row 1: its settings make a folder name of \d+ characters, .* allow 255\."):
        plan(toml({"recipe": NORMAL, "set": names}))


def test_a_file_without_permission_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    plan()
    read = Path.read_text

    def refuse(path: Path, **options: Any) -> str:
        if path.name == "small.toml":
            raise PermissionError(13, "Permission denied")
        return read(path, **options)

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    with pytest.raises(InputError, match=r"^small\.toml: cannot be read \(Permission denied\)\.$"):
        load("small.toml")


def test_a_data_set_that_nuat_does_not_have() -> None:
    common = {name: value for name, value in SMALL.items() if name != "data.path"}
    with pytest.raises(InputError, match=r"row 1: data\.name='cifar': no such data set\. Did you mean 'cifar10'"):
        plan(toml({"recipe": NORMAL}, common={**common, "data.name": "cifar"}))
