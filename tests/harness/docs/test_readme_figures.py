"""The README's figures are those of the committed report, which is made from the records."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_run_that_is_shown_is_a_committed_one():
    text = (ROOT / "README.md").read_text()
    (name, seed), *others = set(re.findall(r"records/runs/(\S+?-smoke-(\d+)-\w+\.json)", text))
    assert others == []
    assert (ROOT / "records" / "runs" / name).is_file()
    sections = (ROOT / "records/report/report.md").read_text().split("\n## ")
    (section,) = (text for text in sections if f"record `{name}`" in text)
    (row,) = re.findall(rf"^\| {seed} \| .*$", section, re.M)
    cells = [cell.strip() for cell in row.split("|")]
    shown = re.search(
        r"score +([\d.]+) bpb\nbytes +([\d,]+) of .*\nclocks +train ([\d.]+) s of \S+ s, eval ([\d.]+) s", text
    )
    assert shown is not None
    assert list(shown.groups()) == cells[4:8]
