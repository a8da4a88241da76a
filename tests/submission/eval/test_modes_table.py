"""The table of evaluation modes, and the command line that merges its lines, from lines whose scores are made up."""

import statistics

import modes_table as modes
import pytest
import refereed_modes as tool


def line(row, model, bpb, **changes):
    fixed = {"track": "smoke", "data": "sotu", "fingerprint": "f" * 64, "code": "c" * 64, "machine": "a CPU"}
    scored = {} if bpb is None else {"bpb": bpb, "seconds": 2.0, "warmup_s": 5.0}
    found = {"targets": 1000, "variables": {"ROW": row}} | fixed | scored | changes
    return modes.Line(row=row, model=model, **found)


def cells(table, row):
    found = next(text for text in table.splitlines() if text.startswith(f"| {row} "))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_difference_is_of_the_same_model_under_both_rows():
    found = {"base": {"a": 1.5, "b": 1.7, "c": 1.4}, "new": {"b": 1.69, "a": 1.47}}
    lines = [line(row, model, bpb) for row, models in found.items() for model, bpb in models.items()]
    table = modes.table(lines)
    apart = [1000 * (found["new"][model] - found["base"][model]) for model in "ab"]
    spread = f"{statistics.mean(apart):+.1f} ± {statistics.stdev(apart):.1f}"
    assert cells(table, "new") == ["new", "1.5800", spread, "2", "2.00", "500", "5.0", "all layers"]
    assert cells(table, "base")[1:4] == ["1.5333", "+0.0", "3"]


def test_the_baseline_is_on_top_whatever_came_first():
    lines = [line("new", "a", 1.4), line("base", "a", 1.5)]
    table = modes.table(lines, "base")
    assert table.index("| base ") < table.index("| new ")
    assert cells(table, "new")[2] == "-100.0"
    with pytest.raises(modes.TableError, match="no row is named 'bass'; there are: new, base"):
        modes.table(lines, "bass")


def test_of_two_lines_of_one_row_and_model_the_last_score_counts():
    scores = [1.5, 1.4, None]
    lines = [line("base", "a", bpb, error="" if bpb else "A2-EVAL-CLOCK FAIL: slow") for bpb in scores]
    assert modes.merge(lines)["base"]["a"].bpb == 1.4


def test_what_failed_and_what_is_missing_is_said():
    broken = "S3-PROTOCOL FAIL: final: it ended. Last lines of /x/final.log:\n    a traceback"
    lines = [
        line("base", "a", 1.5, missing=["seccomp"]),
        line("bad", "a", None, error=broken, code=""),
    ]
    table = modes.table(lines)
    assert cells(table, "base")[-1] == "missing: seccomp"
    assert cells(table, "bad")[1] == "failed"
    assert table.endswith("- FAILED: bad, a: S3-PROTOCOL FAIL: final: it ended.")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "0" * 64}, "different data sets"),
        ({"track": "other"}, "different tracks: other, smoke"),
        ({"targets": 7}, "different numbers of targets: 1000, 7"),
        ({"variables": {"TTT_EPOCHS": "9"}}, "row 'base' stands for different variables"),
    ],
)
def test_lines_that_cannot_be_compared_make_no_table(change, said):
    with pytest.raises(modes.TableError, match=said):
        modes.table([line("base", "a", 1.5), line("base", "b", 1.5, **change)])


def test_the_command_merges_the_files_of_several_calls(tmp_path, monkeypatch, capsys):
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    modes.append(files[0], line("base", "a", 1.5))
    modes.append(files[0], line("new", "a", 1.4))
    modes.append(files[1], line("base", "b", 1.7))
    modes.append(files[1], line("new", "b", 1.5))
    monkeypatch.setattr("sys.argv", ["refereed_modes.py", "--merge", *map(str, files), "--baseline", "base"])
    assert tool.main() == 0
    assert cells(capsys.readouterr().out, "new")[1:4] == ["1.4500", "-150.0 ± 70.7", "2"]
    with files[1].open("a") as file:
        file.write("{}\n")
    assert tool.main() == 2
    assert f"{files[1]}, line 3: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["run", "--row", "base"], "'base' is no NAME:VAR=VALUE;VAR=VALUE"),
        (["run", "--row", "base:TTT_EPOCHS"], "'TTT_EPOCHS' is no VAR=VALUE"),
        (["run", "--mode", "frozem"], "'frozem' is none of: seed's method; frozen;"),
        (["run", "--row", "base:", "--row", "base:A=1"], "have the same name"),
        (["run", "--row", "base:", "--compile-with", "bass"], "--compile-with 'bass' is none of the rows: base"),
        (["run", "--row", "base:", "--tokens", "0"], "'0' is no number of tokens above 0"),
        (["run", "--row", "base:", "--json", "/nowhere/lines"], "--json /nowhere/lines: No such file"),
        (["run"], "name at least one run, and one --row or --mode"),
    ],
)
def test_a_wrong_command_line_is_refused_with_its_fault(argv, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        tool.parse(argv)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_rows_keep_their_order_and_a_mode_starts_from_the_seeds_method():
    rows = tool.parse(["run", "--row", "a:X=1;Y=b=c", "--mode", "frozen", "--row", "base:"]).rows
    assert [name for name, _ in rows] == ["a", "frozen", "base"]
    assert rows[0][1] == {"X": "1", "Y": "b=c"}
    assert rows[1][1]["TTT_EPOCHS"] == "0"
    assert rows[1][1]["EVAL_MODE"] == "windows"


def test_a_folder_without_a_packed_model_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["refereed_modes.py", str(tmp_path), "--row", "base:"])
    assert tool.main() == 2
    assert f"{tmp_path / 'artifact' / 'model.bin'} is missing" in capsys.readouterr().err


def test_a_kept_compile_cache_is_whole_and_that_of_the_first_call(tmp_path, capsys):
    caches = []
    for name in "ab":
        caches.append(tmp_path / name)
        (caches[-1] / "inductor").mkdir(parents=True)
        (caches[-1] / "inductor" / "graph").write_text(name)
    kept = tmp_path / "kept" / "cache"
    tool._keep(caches[0], kept)
    tool._keep(caches[1], kept)
    assert (kept / "inductor" / "graph").read_text() == "a"
    assert list(kept.parent.iterdir()) == [kept]
    assert f"{kept} was filled by another call meanwhile" in capsys.readouterr().err
