"""A whole challenge from a generated repository: found, judged, bounded, resumed, written, and shown in a browser."""

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from public_folders import PublicFolder
from pull_repository import HOSTILE, files_of, write_repository

from harness.cli.check_public import pulls_command as command
from harness.errors import CouldNotCheck, UsageError
from harness.review.findings import Readings
from harness.review.folder import check_folder
from harness.review.output import folder_json
from harness.review.pulls import Objects, judge_all, list_added, list_pulls

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def scored(number, bpb):
    folder = PublicFolder(name=f"2026-04-05_Number_{number}")
    for run, offset in zip(folder.seeds, (-0.0004, 0.0004, 0.0), strict=True):
        run.bpb = bpb + offset
    return folder


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    place = tmp_path_factory.mktemp("pulls")
    base = files_of(PublicFolder(name="2026-03-01_Before"), place / "base")
    pulls = {number: files_of(scored(number, 1.09 - number / 1000), place / str(number)) for number in range(1, 9)}
    late = scored(9, 1.05)
    late.seeds[1].train_ms = 640_000
    pulls[9] = files_of(late, place / "9")
    pulls[10] = pulls[1]
    pulls |= dict(enumerate(HOSTILE.values(), 20))
    return write_repository(place / "golf.git", pulls, base)


def run(repository, out, *more):
    arguments = [str(repository), "--out", str(out), "--quiet", "--jobs", "2", *more]
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done


@pytest.fixture(scope="module")
def out(repository, tmp_path_factory):
    place = tmp_path_factory.mktemp("out")
    run(repository, place)
    return place


def lines(out):
    return [json.loads(line) for line in (out / "folders.jsonl").read_bytes().splitlines()]


def test_every_folder_that_a_pull_request_adds_is_judged_and_nothing_else(out):
    names = {(line["added"]["pull"]["number"], line["report"]["folder"].rsplit("/", 1)[-1]) for line in lines(out)}
    assert {(n, f"2026-04-05_Number_{n}") for n in range(1, 10)} | {(10, "2026-04-05_Number_1")} <= names
    assert not any("Before" in name for _, name in names)
    assert {number for number, _ in names if number >= 20} == set(range(20, 27))
    assert not any(line["report"]["counts"]["ERROR"] for line in lines(out))


def test_the_verdict_is_that_of_the_folder_on_the_disk(out, tmp_path):
    late = scored(9, 1.05)
    late.seeds[1].train_ms = 640_000
    here = folder_json(check_folder(late.write(tmp_path)))
    there = next(line["report"] for line in lines(out) if line["added"]["pull"]["number"] == 9)
    assert (there["verdict"], there["facts"]) == ("FAIL", here["facts"])
    assert [f["key"] for f in there["findings"]] == [f["key"] for f in here["findings"]]


def test_the_board_tells_claimed_from_supported(out):
    rows = {int(row["pull"]): row for row in csv.DictReader((out / "board.csv").open(encoding="utf-8"))}
    assert (rows[9]["claimed"], rows[9]["supported"], rows[9]["verdict"]) == ("1.05", "", "FAIL")
    assert float(rows[8]["supported"]) == pytest.approx(1.082)
    assert "A1-TRAIN-CLOCK" in rows[9]["reasons"]


def test_hostile_names_and_texts_reach_no_output_raw(out):
    page = (out / "board.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2
    for text in (page, (out / "board.csv").read_text(), (out / "folders.jsonl").read_text()):
        assert not any(ord(c) < 32 and c != "\n" for c in text)
    found = {
        f["rule"] for line in lines(out) if line["added"]["pull"]["number"] == 20 for f in line["report"]["findings"]
    }
    assert "A9-PLAIN-FILES" in found


def test_started_again_it_judges_only_what_is_new(repository, out, tmp_path, monkeypatch):
    again = tmp_path / "again"
    shutil.copytree(out, again)
    cut = (again / "folders.jsonl").read_bytes().splitlines(keepends=True)
    (again / "folders.jsonl").write_bytes(b"".join(cut[:-1]) + cut[-1][:40])
    asked = []
    monkeypatch.setattr("harness.review.pulls.judge_all", lambda *a: (asked.append(a), judge_all(*a))[1])
    run(repository, again)
    known, added = asked[0][3], asked[0][1]
    assert len(known) == len({line["key"] for line in lines(out)[:-1]})
    assert len(added) == len(lines(out))
    assert (again / "folders.jsonl").read_bytes() == (out / "folders.jsonl").read_bytes()
    assert all(item.key in known for item in judge_all(repository, added[:3], Readings(), known, 1))


def test_a_judge_that_the_kernel_kills_is_the_machines_fault(repository, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.review.pulls.judge", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # in a child
    with pytest.raises(CouldNotCheck, match="was killed"):
        run(repository, tmp_path / "out")


def test_a_pull_request_that_was_merged_still_adds_its_folder(repository, tmp_path):
    clone = tmp_path / "golf.git"
    shutil.copytree(repository, clone)
    git = ["git", "-C", str(clone), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    head = "refs/pull/3/head"
    merge = [*git, "commit-tree", f"{head}^{{tree}}", "-p", "main", "-p", head, "-m", "merge"]
    commit = subprocess.run(merge, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([*git, "update-ref", "refs/heads/main", commit], check=True)
    found = {pull.number: added for pull, added in list_added(clone, "main", list_pulls(clone)[:4])}
    assert [[item.path[-8:] for item in found[n]] for n in (3, 4)] == [["Number_3"], ["Number_4"]]


def test_a_long_object_is_read_at_its_ends_and_a_huge_one_not_at_all(repository, monkeypatch):
    objects = Objects(repository)
    name = "refs/pull/24/head:records/track_10min_16mb/2026-04-05_Large/train.log"
    data, whole = objects.read(name, 1 << 20)
    assert (len(data), whole) == ((1 << 20) + 1, False)
    monkeypatch.setattr("harness.review.pulls.LARGEST_BLOB", 1000)
    assert objects.read(name, 1 << 20) == (b"", False)
    entry = b"100644 a\0" + bytes(20)
    monkeypatch.setattr(objects, "read", lambda *_: (entry + b"1 " * 100_000 + b"x" + entry, True))
    assert objects.tree("x")[0] == ("file", "a", "00" * 20)
    monkeypatch.setattr(objects, "read", lambda *_: (entry + b"x" + entry + b"1 " * 100_000, True))
    assert objects.tree("x") == [("file", "a", "00" * 20)]  # reading stops at the first malformed entry
    objects.close()


@pytest.mark.parametrize(
    ("arguments", "error"), [(["--base", "nowhere"], CouldNotCheck), (["--only", "x"], UsageError)]
)
def test_what_can_not_be_done_is_one_message(repository, tmp_path, arguments, error):
    with pytest.raises(error):
        run(repository, tmp_path, *arguments)


def test_results_that_a_stranger_left_in_the_clone_are_not_taken(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(repository)
    (tmp_path / "link").symlink_to(repository)
    for out in ("pulls-report", tmp_path / "link" / "out"):
        with pytest.raises(UsageError, match="lies in the clone"):
            run(".", out, "--only", "1")


def test_a_branch_whose_name_is_no_text_stops_nothing(repository, tmp_path):
    copy = tmp_path / "golf.git"
    shutil.copytree(repository, copy)
    for name in (b"caf\xe9", "a\u2028b".encode()):
        subprocess.run(["git", "-C", copy, "update-ref", b"refs/remotes/origin/" + name, "HEAD"], check=True)
    assert list_pulls(copy) == list_pulls(repository)


def test_a_folder_without_pull_requests_is_one_message(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path / "empty")], check=True)
    with pytest.raises(CouldNotCheck, match="no refs/pull"):
        list_pulls(tmp_path / "empty")
    with pytest.raises(CouldNotCheck):
        list_pulls(tmp_path)


@pytest.mark.skipif(not (BROWSER and shutil.which("chromedriver")), reason="needs chromium and chromedriver")
def test_the_page_sorts_filters_and_opens_a_folder(out):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make setup-dev")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(Path(out / "board.html").as_uri())
        cells = "return [...document.querySelectorAll('#board tbody tr')].map(r => r.cells[0].textContent)"
        assert driver.execute_script(cells)[:3] == ["1", "2", "3"]
        driver.execute_script("document.querySelector('#board th[data-name=claimed] button').click()")
        scores = (
            "return [...document.querySelectorAll('#board tbody tr')].map(r => r.cells[4].textContent).filter(Boolean)"
        )
        assert driver.execute_script(scores) == sorted(driver.execute_script(scores), key=float)
        choose = "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.oninput()"
        driver.execute_script(choose, "r", "A1-TRAIN-CLOCK")
        assert driver.execute_script(cells) == ["9"]
        driver.execute_script("document.querySelector('#board tbody a').click()")
        driver.execute_script("show()")
        assert "training overran the cap" in driver.find_element("id", "one").text
        assert [entry["message"] for entry in driver.get_log("browser")] == []
        assert driver.execute_script("return document.querySelectorAll('b').length") == 0
        driver.get(Path(out / "board.html").as_uri())
        for width, scheme in itertools.product((390, 820, 1400), ("light", "dark")):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width
            lit = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (lit == "rgb(255, 255, 255)") == (scheme == "light")
    finally:
        driver.quit()


def test_files_have_the_users_mode(out):
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o666 & ~mask}
