"""Notes on attacks that ran with other settings in some rows of a table: such rows are not ranked."""

from nuat.attacks.catalogue import WORST_CASE
from nuat.records.evaluations import Measurement
from nuat.records.methods import setting_text
from nuat.records.settings import flat
from nuat.report.page.groups import Group


def settings_notes(group: Group) -> tuple[str, ...]:
    """Return a sentence on each attack whose settings are not those of every row, with the rows of each setting."""
    notes = []
    for part, attack in group.columns:
        ran: dict[str, dict[str, Measurement]] = {}
        for method in group.methods:
            for found in method.measured((part, attack)):
                ran.setdefault(found.settings, {})[method.label] = found
        if attack != WORST_CASE and len(ran) > 1:  # a worst case is over attacks that have their own notes
            texts = _differences([next(iter(rows.values())) for rows in ran.values()])
            rows = "; ".join(f"{', '.join(rows)}: {text}" for rows, text in zip(ran.values(), texts, strict=True))
            name = group.setting.attack_name(attack) + ("" if part == "test" else f" ({part})")
            notes.append(f"{name} ran with different settings, and rows of other settings are not ranked: {rows}.")
    return tuple(notes)


def _differences(ran: list[Measurement]) -> list[str]:
    """Return the settings in which the attacks differ, as text."""
    known = [None if found.evaluation is None else flat(_settings(found)) for found in ran]
    names = dict.fromkeys(name for one in known if one is not None for name in one)
    unlike = [name for name in names if len({setting_text(one.get(name)) for one in known if one is not None}) > 1]
    return [
        "not recorded" if one is None else ", ".join(f"{name} {setting_text(one.get(name))}" for name in unlike)
        or "as recorded"
        for one in known
    ]  # fmt: skip


def _settings(found: Measurement) -> dict[str, object]:
    assert found.evaluation is not None
    return next(one.settings for one in found.evaluation.results if one.name == found.attack)
