"""Reports as text, Markdown, JSON and HTML: right figures, hostile text defused, failing records marked."""

import json
import os
import re
import shutil
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from public_folders import PublicFolder
from report_samples import store_three_seeds

from harness.cli.report import command
from harness.errors import CouldNotCheck
from harness.protocol.container import write_container
from harness.record.predicate import SubmissionInfo
from harness.report.figures import collect, overview_table, pool_runs
from harness.report.page import bars, dots, lines, render_markdown, render_page, thin
from harness.review.claims import check_text
from harness.rules import Finding, Verdict
from harness.run.artifact import bytes_by_role


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    store_three_seeds(root)
    return root / "records"


def board(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_terminal_shows_each_seed_and_both_deviations_by_name(records, tmp_path, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = board(records, "--out", tmp_path).output
    rows = {words[0]: words for line in text.splitlines() if len(words := re.split(r"\s{2,}", line.strip())) > 2}
    assert {"42", "1337", "2025", "Mean", "Sample std"} <= rows.keys()
    assert any(first.startswith("Population") for first in rows)
    assert all(len(line) <= columns for line in text.splitlines() if not line.startswith(("page:", "markdown:")))
    assert "…" not in "".join("".join(words) for words in rows.values())


def test_the_markdown_passes_the_check_of_claims(records):
    claims = check_text(render_markdown(collect([records])))
    assert {claim.verdict for claim in claims} == {Verdict.PASS}
    said = {claim.what for claim in claims}
    assert {"mean of bpb after test-time training", "sample std of bpb after quantisation"} <= said


def test_one_record_and_several_folders_make_a_report_and_a_copy_counts_once(records, tmp_path):
    file = next((records / "runs").glob("*-42-*.json"))
    assert [run.seed for run in collect([file]).runs] == [42]
    store_three_seeds(tmp_path)
    shutil.copytree(records, tmp_path / "copy" / "records")
    assert len(collect([records, tmp_path / "records", tmp_path / "copy" / "records"]).runs) == 6


def test_one_seed_has_a_score_and_neither_mean_nor_deviation(records):
    report = collect([next((records / "runs").glob("*-42-*.json"))])
    markdown, page = render_markdown(report), render_page(report)
    assert markdown.splitlines()[0].endswith("bpb (one seed)")
    assert [line.split("|")[1].strip() for line in markdown.splitlines() if line.startswith("| ")] == ["seed", "42"]
    assert not re.search(r"\bstd\b|deviation|\bmean\b", markdown, re.IGNORECASE)
    assert "<dt>Score</dt>" in page
    assert not re.search("<dt>Mean</dt>|standard deviation|interval", page)


def test_a_run_without_a_stage_leaves_that_cell_empty(records):
    report = collect([records])
    first, *others = report.pools[0].runs
    scores = [score for score in first.record.scores if score.stage == "final"]
    short = replace(first, stored=replace(first.stored, predicate=msgspec.structs.replace(first.record, scores=scores)))
    (pool,) = pool_runs([short, *others])
    mixed = replace(report, pools=(pool,))
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render_markdown(mixed).splitlines()
             if line.startswith("| ")]  # fmt: skip
    final, before = table[0].index("bpb after test-time training"), table[0].index("bpb before quantisation")
    rows = {row[0]: row for row in table}
    assert (rows[str(first.seed)][before], rows["Mean"][before]) == ("", "")
    for run in pool.runs:
        assert rows[str(run.seed)][final] == f"{run.record.final.bpb:.4f}"
    assert rows["Mean"][final] == f"{pool.statistics.bpb.mean:.4f}"
    page = re.findall(r"<table.*?</table>", render_page(mixed), re.DOTALL)[1]
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)", row) for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL)]
    assert {len(row) for row in cells} == {len(table[0])}
    assert [row[final] for row in cells[1:]] == [f"{run.record.final.bpb:.4f}" for run in pool.runs]


def test_runs_of_one_submission_are_told_apart_by_their_settings(records):
    run = collect([records]).runs[0]
    submission = run.record.submission
    odd = msgspec.structs.replace(submission, config=submission.config | {"TTT_EPOCHS": 1}, config_digest="0" * 64)
    record = msgspec.structs.replace(run.record, submission=odd)
    others = [run, replace(run, owner="another"), replace(run, stored=replace(run.stored, predicate=record))]
    keys = [f"{submission.name} (key {owner})" for owner in (run.owner[:8], "another")]  # not by the name alone
    names = [*keys, f"{submission.name} (TTT_EPOCHS=1)"]
    assert [pool.name for pool in pool_runs(others)] == names


def test_a_script_has_one_score_of_its_own_word_and_no_clocks(records):
    report = collect([records])
    said = {"kind": "self-reported", "scores": [report.runs[0].record.final]}
    runs = [replace(run, stored=replace(run.stored, predicate=msgspec.structs.replace(run.record, **said)))
            for run in report.runs[:1]]  # fmt: skip
    script = replace(report, pools=pool_runs(runs))
    text = render_markdown(script)
    assert "as the script printed it" in text
    assert not re.search(r"test-time|longest|train s", text)
    assert "test-time" not in render_page(script)
    assert overview_table(script).rows[0][-3:] == ["unknown", "PASS", "self-reported"]


def test_the_board_ranks_records_and_public_folders_by_track_and_says_which_are_self_reported(
    records, tmp_path, monkeypatch
):
    PublicFolder(name="2026-04-05_good").write(tmp_path)
    PublicFolder(name="2026-04-05_broken", files={"README.md": None}).write(tmp_path)
    result = board(records, tmp_path / "track_10min_16mb", "--out", tmp_path / "out", "--json")
    rows = [tuple(row[name] for name in ("rank", "submission", "track", "bpb", "verdict", "kind"))
            for row in json.loads(result.output)["overview"]]  # fmt: skip
    mean = f"{collect([records]).pools[0].statistics.bpb.mean:.4f}"
    assert rows[2][:3] == ("1", "sample", "smoke")
    assert rows[2][3].startswith(f"{mean} ± 0.0")
    assert [row[5] for row in rows] == ["self-reported", "self-reported", "refereed"]
    monkeypatch.setenv("COLUMNS", "75")
    narrow = board(records, tmp_path / "track_10min_16mb", "--out", tmp_path / "out").output
    header = next(line.split() for line in narrow.splitlines() if "submission" in line)
    assert header == ["submission", "track", "bpb", "verdict", "kind"]  # a rank says nothing without its track
    assert ": : " not in (tmp_path / "out" / "report.md").read_text()
    assert [row[:2] for row in rows[:2]] == [("-", "2026-04-05_broken"), ("1", "2026-04-05_good")]
    assert (rows[0][4], rows[1][3]) == ("FAIL", "1.0805 ± 0.0004")
    assert result.return_value == 1
    for file in ("report.html", "report.md"):
        assert "2026-04-05_broken" in (tmp_path / "out" / file).read_text().replace("\\_", "_")


def test_nothing_to_report_says_how_to_make_a_record(tmp_path):
    with pytest.raises(CouldNotCheck, match="harness submit"):
        collect([tmp_path])


def test_hostile_text_in_a_record_stays_text(tmp_path):
    hostile = "<script>alert(1)</script>\"'&|[x](javascript:y)\u202e"
    (stored, *_) = store_three_seeds(tmp_path / "plain")
    run = stored.record.submission
    config = dict(run.config)
    submission = SubmissionInfo(hostile, run.code_digest, run.files, config, run.config_digest, 1, run.seed)
    report = collect([tmp_path / "plain" / "records"])
    changed = msgspec.structs.replace(stored.record, submission=submission, model_sections={hostile: 5})
    pool = report.pools[0]
    entry = replace(pool.runs[0].stored, predicate=changed, path=Path("x`<script>`\n# forged.json"))
    newer = Finding(f"{hostile}\n# forged", Verdict.WARN, "of a rule that this version does not know")
    runs = (replace(pool.runs[0], stored=entry, findings=(*pool.runs[0].findings, newer)), *pool.runs[1:])
    hostile_report = replace(report, pools=(replace(pool, runs=runs),))
    page, markdown = render_page(hostile_report), render_markdown(hostile_report)
    assert "<script" not in page
    assert "not a rule of this version" in page
    assert "\u202e" not in page + markdown
    assert "<script" not in re.sub("`[^`\n]*`", "", markdown)
    assert "\\[x\\](javascript" in markdown
    assert "\n# forged" not in markdown
    assert markdown.count("`") % 2 == 0


def test_a_failing_record_is_marked_and_left_out_of_the_statistics(tmp_path):
    store_three_seeds(tmp_path)
    path = next((tmp_path / "records" / "runs").glob("*-42-*.json"))
    damaged = path.with_name("20261124T170000Z-smoke-42-00000000.json")
    path.rename(damaged)
    report = collect([tmp_path / "records"])
    assert {run.seed: run.verdict.value for run in report.runs}[42] == "FAIL"
    assert report.pools[0].statistics.seeds == (1337, 2025)
    assert board(tmp_path / "records", "--out", tmp_path / "out").return_value == 1


def test_a_board_with_a_file_that_could_not_be_read_says_so_by_its_exit_code(tmp_path):
    store_three_seeds(tmp_path)
    os.mkfifo(tmp_path / "records" / "runs" / "20270101T000000Z-smoke-9-00000000.json")
    assert board(tmp_path / "records", "--out", tmp_path / "out").return_value == 3


def test_the_command_writes_both_files_and_json(records, tmp_path):
    result = board(records, "--out", tmp_path, "--baseline", records, "--margin", "0.005 nats/token", "--json")
    document = json.loads(result.output)
    assert result.return_value == 0
    assert [run["seed"] for run in document["pools"][0]["runs"]] == [42, 1337, 2025]
    assert any("margin 0.005 nats/token" in line for line in document["comparison"])
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert (tmp_path / "report.md").read_text().startswith("## sample on track smoke: 1.92")


ANY = st.floats(allow_nan=False, allow_infinity=False)  # a submission's own loss may be any number
POINTS = st.lists(st.tuples(st.integers(0, 10**7), ANY), min_size=1, max_size=30, unique_by=lambda point: point[0])


@given(POINTS, POINTS)
def test_any_lines_are_drawn_inside_their_frame(one, other):
    picture = xml.fromstring(lines([("a", "s0", thin(sorted(one))), ("b", "s1", thin(sorted(other)))], "x", "", "t"))
    found = picture.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(found) == 2
    for pair in " ".join(line.attrib["points"] for line in found).split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 480
        assert 0 <= y <= 240


def test_a_steep_beginning_enters_from_the_edge_and_is_told():
    points = [(0, 50.0), (1, 9.0), *((step, 4.0 - step / 20) for step in range(2, 40))]
    picture = xml.fromstring(lines([("a", "s0", points)], "steps", "", "t"))
    line = picture.find("{http://www.w3.org/2000/svg}polyline").attrib["points"]
    heights = [float(pair.split(",")[1]) for pair in line.split()]
    assert heights == sorted(heights)
    assert heights.count(heights[0]) <= 2
    assert float(line.split(",")[0]) > 58 + 362 * 3 / 39
    assert any("50.0000 at 0 to 2.0500" in (text.text or "") for text in picture.iter())


@given(st.text(max_size=60), st.floats(0.1, 1e300), st.floats(0.1, 9))
def test_any_name_keeps_the_drawing_well_formed(name, a, b):
    for picture in (
        dots([(name, [a, b]), ("x", [b])], (min(a, b), max(a, b)), name),
        bars([(name, a, b), (name, b, None)], name, name),
        lines([(name, "s0", [(0, a), (1, b)])], name, name, name),
    ):
        xml.fromstring(picture)


def test_bars_begin_at_zero_and_share_one_scale():
    picture = xml.fromstring(bars([("a", 10.0, 40.0), ("b", 20.0, None)], "", "t"))
    boxes = picture.findall("{http://www.w3.org/2000/svg}rect")
    limit, first, second = (float(box.attrib["width"]) for box in boxes)
    assert len({box.attrib["x"] for box in boxes}) == 1
    assert (limit / first, second / first) == (pytest.approx(4, abs=0.01), pytest.approx(2, abs=0.01))


def test_bytes_by_role_are_those_of_the_sections():
    sections = {"codes/blocks.0.mlp.up": b"1234", "codes/blocks.7.mlp.down": b"12", "header.json": b"{}"}
    sections |= {f"a{i:02d}" + "x" * i: b"7" for i in range(30)}
    found = bytes_by_role(write_container(None, sections, codec="lzma"), max_unpacked_bytes=10_000)
    assert found["codes/blocks/mlp"] == 6
    assert sum(found.values()) == sum(map(len, sections.values()))
    assert len(found) == 25
