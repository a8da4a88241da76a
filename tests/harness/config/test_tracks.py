"""Tracks and the referee's environment variables."""

from pathlib import Path

import pytest

import harness
from harness.config.tracks import load_track, track_names
from harness.config.variables import VARIABLES, check_environment, records_dir
from harness.errors import UsageError


def test_the_tracks_ship_and_load():
    assert track_names() == ["10min_16mb", "non_record_16mb", "one_gpu_120s", "smoke"]
    assert [load_track(name).name for name in track_names()] == track_names()


def test_the_official_track_has_the_limits_of_the_challenge():
    track = load_track("10min_16mb")
    assert (track.limits.train_s, track.limits.eval_s, track.limits.artifact_bytes) == (600.0, 600.0, 16_000_000)
    assert (track.official, track.hardware.gpus, track.ranks) == (True, 8, 8)


def test_an_unknown_track_names_the_known_ones():
    with pytest.raises(UsageError, match="smoke"):
        load_track("smok")


def test_further_tracks_come_from_a_folder_and_replace_none_that_ships(tmp_path, monkeypatch):
    smoke = (Path(harness.__file__).parent / "tracks" / "smoke.toml").read_text()
    own = smoke.replace('name = "smoke"', 'name = "spring"\ndeadline = "2027-06-30T23:59:59Z"')
    (tmp_path / "spring.toml").write_text(own)
    (tmp_path / "smoke.toml").write_text(smoke.replace("90.0", "900.0"))
    monkeypatch.setenv("GOLF_TRACKS_DIR", str(tmp_path))
    assert "spring" in track_names()
    assert load_track("smoke").limits.train_s == 90.0
    assert load_track("spring").digest != load_track("smoke").digest
    load_track("spring").refuse_when_closed("2027-06-30T23:59:59Z")
    with pytest.raises(UsageError, match="closed at 2027-06-30"):
        load_track("spring").refuse_when_closed("2027-07-01T00:00:00Z")
    (tmp_path / "spring.toml").write_text(own.replace("T23:59:59Z", ""))
    with pytest.raises(UsageError, match=r"spring\.toml: .*deadline"):
        load_track("spring")
    for limit in ("nan", "inf", "-1.0", "0.0"):
        (tmp_path / "spring.toml").write_text(own.replace("train_s = 90.0", f"train_s = {limit}"))
        with pytest.raises(UsageError, match=r"spring\.toml: .*limits\.train_s"):
            load_track("spring")
    (tmp_path / "summer.toml").write_text(own)
    with pytest.raises(UsageError, match="name is 'spring'; wanted 'summer'"):
        load_track("summer")
    monkeypatch.setenv("GOLF_TRACKS_DIR", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="not a directory"):
        track_names()


def test_an_unknown_golf_variable_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="GOLF_CACHE_DIR"):
        check_environment({"GOLF_CACHE_DIRS": "/x"})
    check_environment(dict.fromkeys(VARIABLES, "x") | {"HOME": "/root"})


def test_an_empty_folder_variable_is_refused(monkeypatch):
    monkeypatch.setenv("GOLF_RECORDS_DIR", " ")
    with pytest.raises(UsageError, match="GOLF_RECORDS_DIR is empty"):
        records_dir()
