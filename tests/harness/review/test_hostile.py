"""Folders that want to hurt the reader: bounded time and memory, one clear message, nothing raw on the terminal."""

import json
import os
import stat
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from public_folders import PublicFolder

from harness.cli.check_public import folder_command as command
from harness.review.findings import Findings, Readings
from harness.review.folder import check_folder
from harness.review.jsonfile import JsonProblem, parse_json
from harness.review.logs import decode, read_log
from harness.review.readme import Document
from harness.review.source import HEAD_BYTES, MAX_ENTRIES, TAIL_BYTES, open_folder
from harness.review.unwrap import unwrap
from harness.rules import Verdict


def named(report, rule, verdict=Verdict.FAIL):
    return [item for item in report.findings if item.rule == rule and item.verdict is verdict]


@pytest.mark.rule("A9-PLAIN-FILES")
def test_links_pipes_and_loops_are_named_and_not_followed(tmp_path):
    secret = tmp_path / "secret.log"
    secret.write_text("step:1/2 train_loss:1.0 SECRET")
    folder = PublicFolder().write(tmp_path)
    (folder / "train_seed9.log").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "train_pipe.log")
    report = check_folder(folder)
    (found,) = named(report, "A9-PLAIN-FILES")
    assert {found.file, *(more.split(":")[0] for more in found.more)} == {"train_seed9.log", "loop", "train_pipe.log"}
    assert "SECRET" not in str(report)


@pytest.mark.rule("A9-PLAIN-FILES")
def test_endless_folders_are_cut(tmp_path):
    folder = PublicFolder().write(tmp_path)
    for i in range(MAX_ENTRIES + 10):
        (folder / f"f{i}").touch()
    assert "more than" in named(check_folder(folder), "A9-PLAIN-FILES")[0].message


@pytest.mark.slow
@pytest.mark.rule("A9-PLAIN-FILES")
def test_a_hundred_thousand_files_are_not_listed(tmp_path):
    folder = PublicFolder().write(tmp_path)
    crowd = folder / "crowd"
    crowd.mkdir()
    place = os.open(crowd, os.O_RDONLY)
    for i in range(100_000):
        os.close(os.open(f"f{i}.log", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    code, peak = bounded_run(folder)
    assert (code, peak < 300 << 20) == (1, True)


@pytest.mark.rule("A9-PLAIN-FILES")
@pytest.mark.parametrize("make", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK], ids=["character", "block", "socket"])
def test_devices_and_sockets_are_named_and_not_opened(tmp_path, make):
    folder = PublicFolder().write(tmp_path)
    try:
        os.mknod(folder / "train_seed9.log", make | 0o644, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("needs root to create a device file; the socket case runs for every user")
    found = named(check_folder(folder), "A9-PLAIN-FILES")
    assert [item.file for item in found] == ["train_seed9.log"]


@pytest.mark.parametrize("other", ["pipe", "link", "folder", "gone"])
def test_a_file_that_is_exchanged_after_the_listing_is_not_followed(tmp_path, other):
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    folder, out = PublicFolder().write(tmp_path), Findings()
    listed = open_folder(folder, Readings(), out)
    log = folder / "train_seed1.log"
    log.unlink()
    {"pipe": lambda: os.mkfifo(log), "link": lambda: log.symlink_to(secret), "folder": log.mkdir, "gone": int}[other]()
    assert listed.read("train_seed1.log", out) is None
    assert [item.rule for item in out.items] == ["A9-PLAIN-FILES"]


def test_deep_trees_are_cut(tmp_path):
    folder = PublicFolder().write(tmp_path)
    (folder / "/".join("d" * 30)).mkdir(parents=True)
    assert "deeper" in named(check_folder(folder), "A9-PLAIN-FILES")[0].message


@pytest.mark.rule("A9-READABLE")
def test_a_log_of_two_gigabytes_is_read_at_both_ends(tmp_path):
    folder = PublicFolder().write(tmp_path)
    log = folder / "train_seed1.log"
    text = log.read_bytes()
    middle = text.index(b"stopping_early")
    with log.open("wb") as stream:
        stream.write(text[:middle])
        stream.truncate(2 << 30)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + text[middle:])
    report = check_folder(folder)
    found = named(report, "A9-READABLE", Verdict.WARN)
    assert found[0].file == "train_seed1.log"
    assert f"{HEAD_BYTES + TAIL_BYTES:,}"[:4] in found[0].message
    assert named(report, "A9-SCORE-MATCH", Verdict.PASS)


def bounded_run(folder):
    """Exit code of the command in one GiB of address space, and its peak of resident memory in bytes."""
    code = (
        "import re, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from harness.cli.main import run\n"
        f"try:\n    run(['check', 'folder', {str(folder)!r}])\n"
        "except SystemExit:\n"
        "    print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)\n    raise\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, int(done.stderr.split()[-1]) << 10


def test_logs_of_two_gigabytes_fit_a_small_memory(tmp_path):
    folder = PublicFolder().write(tmp_path)
    for i in range(8):  # more than is read of all logs together
        with (folder / f"train_seed{i + 10}.log").open("wb") as log:
            log.write(b"step:1/2 train_loss:1.0\n")
            log.truncate((2 << 30) + i)
    code, peak = bounded_run(folder)
    assert code in (0, 1)
    assert peak < 500 << 20


BAD_JSON = {
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "nan": b'{"val_bpb": NaN}',
    "digits": b'{"val_bpb": ' + b"9" * 5000 + b"}",
    "utf8": b'{"name": "\xff"}',
    "list": b"[]",
    "large": b" " * (1 << 20) + b"{}",
    "cut": b'{"name": "x',
    "key": b'{"' + b"base_" * 50_000 + b'": 1.5}',
    "inner key": b'{"compliance": {"' + b"train" * 50_000 + b'": true}}',
}


@pytest.mark.rule("A9-JSON")
@pytest.mark.parametrize("data", list(BAD_JSON.values()), ids=list(BAD_JSON))
def test_bad_json_is_one_finding(tmp_path, data):
    folder = PublicFolder(files={"submission.json": data}).write(tmp_path)
    assert len(named(check_folder(folder), "A9-JSON")) == 1


def test_overflowing_numbers_are_no_numbers(tmp_path):
    folder = PublicFolder(files={"submission.json": b'{"val_bpb": 1e999, "name": "x", "github_id": "y"}'}).write(
        tmp_path
    )
    assert named(check_folder(folder), "A9-METADATA")


EVIL = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe [click](javascript:alert(1)) ::error::x\r\n::warning file=a::b"


def test_nothing_raw_reaches_terminal_json_or_annotations(tmp_path):
    folder = PublicFolder(metadata={"date": EVIL, "name": EVIL}).write(tmp_path)
    for flag in ("--all", "--json", "--annotations"):
        out = CliRunner().invoke(command, [str(folder), flag]).output
        assert not any(c in out for c in "\x1b\x07\u202e\r")
        assert not any(
            line.startswith("::error::x") or line.startswith("::warning file=a") for line in out.splitlines()
        )
    sarif = tmp_path / "out.sarif"
    CliRunner().invoke(command, [str(folder), "--sarif", str(sarif)])
    text = sarif.read_text()
    assert "\x1b" not in text
    assert "[click](" not in json.dumps(json.loads(text), ensure_ascii=False).replace("\\\\[", "")


def test_file_names_with_escapes_are_made_harmless(tmp_path):
    folder = PublicFolder().write(tmp_path)
    (folder / "\x1b[2Jx.log").symlink_to("/etc/passwd")
    assert "\x1b" not in CliRunner().invoke(command, [str(folder)]).output


def test_a_file_name_that_is_no_text_is_reported_in_every_form(tmp_path):
    folder = PublicFolder().write(tmp_path)
    (folder / os.fsdecode(b"x\xff.log")).symlink_to("README.md")
    sarif = tmp_path / "o.sarif"
    for form in ("--all", "--json", "--annotations"):
        done = CliRunner().invoke(command, [str(folder), form, "--sarif", str(sarif)])
        assert not done.exception
        done.output.encode()
    assert "x%FF.log" in sarif.read_text()


@pytest.mark.parametrize(
    "line",
    [
        b"a" * 2_000_000,
        b"val_loss:" * 200_000,
        b"1/1 " * 300_000,
        (b"[rank0]: " * 50_000) + b"val_bpb",
        b" \t" * 500_000,
    ],
    ids=["letters", "keys", "steps", "prefixes", "blanks"],
)
def test_lines_made_for_slow_patterns_take_linear_time(line):
    began = time.process_time()
    read_log("x.log", decode(b"\n".join([line[:20_000]] * 100) + b"\n" + line))
    Document(decode(b"| seed | " + line + b"\n|---|---|\n" + line))
    assert time.process_time() - began < 20


SLOW_SCRIPTS = {
    "functions": "\n".join(
        f"def f{i}(val_tokens):\n    model(val_tokens).backward()\n    f{i + 1}(val_tokens)" for i in range(4_000)
    ),
    "withs": "def f(val_tokens):\n"
    + "    with torch.no_grad():\n        z = 1\n" * 8_000
    + "    val_tokens.backward()",
    "ifs": "def f(val_tokens):\n" + "    if epoch == n - 1: z = 1\n" * 9_000 + "    val_tokens.backward()",
    "hashes": "\n".join(f"k{i} = hash_a ^ (b * {i})" for i in range(15_000)),
}


@pytest.mark.parametrize("script", list(SLOW_SCRIPTS.values()), ids=list(SLOW_SCRIPTS))
def test_scripts_made_for_slow_checks_take_linear_time(tmp_path, script):
    began = time.process_time()
    assert check_folder(PublicFolder(script=script).write(tmp_path)).count(Verdict.ERROR) == 0
    assert time.process_time() - began < 20


@pytest.mark.parametrize("script", ["import a" + ".a" * 60_000, "a," * 2_000_000], ids=["dotted", "commas"])
def test_a_script_that_takes_a_parser_gigabytes_is_not_parsed(script):
    assert "more than" in unwrap(script).opaque


def test_a_script_that_carries_megabytes_of_text_is_parsed():
    script = f"import a{'.a' * 100}\nx = {'a,' * 1_000_000!r}  # " + "a," * 1_000_000
    assert unwrap(script).imports == ["a" + ".a" * 100]


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_log_a_readme_or_bad_json(data):
    read_log("train_seed1.log", decode(data))
    Document(decode(data))
    with suppress(JsonProblem):
        parse_json(data)


@pytest.mark.parametrize(
    "number", ["1e999", "9" * 500, "0." + "1" * 500, "1" + ",000" * 200, "1e-999", "9" * 41 + "e99"]
)
def test_numbers_beyond_reason_in_a_readme_end_no_check(tmp_path, number):
    text = f"# x\n\nval_bpb: {number} (3-seed mean, std {number})\n\n| Seed | bpb | Gain |\n|---|---|---|\n"
    text += "".join(f"| {seed} | {number} | {number} bytes |\n" for seed in (1, 2, 3))
    assert check_folder(PublicFolder(files={"README.md": text}).write(tmp_path)).count(Verdict.ERROR) == 0


def test_a_missing_folder_is_wrong_usage(capsys):
    from harness.cli.main import run

    with pytest.raises(SystemExit) as exit_:
        run(["check", "folder", "/nonexistent/folder"])
    assert exit_.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(SystemExit) as exit_:
        run(["check", "folder", "a" * 8_000])
    assert (exit_.value.code, len(capsys.readouterr().err) < 1_000) == (3, True)


KEYS = ["val_bpb", "val_loss", "seeds", "seed_results", "bytes_total", "date", "track", "compliance", "val_bpb_std"]
ODD = st.sampled_from(
    [None, "", [], {}, -1, 0, 1e308, True, "x", [1, "a", None], {"1": None, "2": {"val_bpb": "x"}}, 10**25]
)
CUTS = st.tuples(
    st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([b"", b"9" * 40, b"1e999", b"nan", b"|", b"\xff", b"0."])
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["modern", "classic", "ternary"]),
    st.dictionaries(st.sampled_from(KEYS), ODD),
    st.lists(CUTS, max_size=12),
)
def test_damaged_folders_are_judged_without_an_error(tmp_path_factory, family, metadata, cuts):
    folder = PublicFolder(family, metadata=metadata).write(tmp_path_factory.mktemp("damaged"))
    files = sorted(path for path in folder.iterdir() if path.suffix != ".py")
    for place, length, new in cuts:
        path = files[place % len(files)]
        data = path.read_bytes()
        place %= len(data) + 1
        path.write_bytes(data[:place] + new + data[place + length :])
    assert check_folder(folder).count(Verdict.ERROR) == 0


def test_a_check_that_breaks_off_is_an_error_of_its_folder_alone(tmp_path, monkeypatch):
    import harness.review.folder as module

    def breaks(record):
        raise KeyError("odd")

    monkeypatch.setattr(module, "CHECKS", (breaks, *module.CHECKS))
    report = check_folder(PublicFolder().write(tmp_path))
    assert report.verdict is Verdict.ERROR
    assert named(report, "A9-READABLE", Verdict.ERROR)[0].message.startswith("the check of")
    assert named(report, "A9-SCORE-MATCH", Verdict.PASS)
