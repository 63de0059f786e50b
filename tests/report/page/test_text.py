"""Tables in Markdown: no text of strangers is markup."""

import re
from pathlib import Path

from report.report_runs import marked_table

from nuat.report.page.text import markdown


def test_no_text_of_strangers_is_markup(tmp_path: Path) -> None:
    table = marked_table(tmp_path, "a|b")
    text = markdown([table])
    head, rule, *_ = lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}
    assert head.startswith(r"| paper a\|b shared (a\|b) | paper a\|b shared (a\|b) | paper a\|b ")
    assert rule.startswith("| --- | ---: |")
    assert [line for line in text.splitlines() if re.search(r"(?<!\\)\|", line)] == lines
    for told in (r"- a\|b: a\|b", r"- a\|b differs from its recipe in model.weights a\|b", r"(campaign a\|b)"):
        assert told in text
    assert "\n\na\\|b\n\n" in text
