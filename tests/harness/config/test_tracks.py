"""Tracks and the referee's environment variables."""

import pytest

from harness.config.tracks import Limits, load_track, track_names
from harness.config.variables import VARIABLES, check_environment, records_dir
from harness.errors import UsageError


def test_the_tracks_ship_and_load():
    assert track_names() == ["10min_16mb", "non_record_16mb", "one_gpu_120s", "smoke"]
    assert [load_track(name).name for name in track_names()] == track_names()


def test_the_official_track_has_the_limits_of_the_challenge():
    track = load_track("10min_16mb")
    assert (track.limits.train_s, track.limits.eval_s, track.limits.artifact_bytes) == (600.0, 600.0, 16_000_000)
    assert (track.official, track.hardware.gpus, track.ranks) == (True, 8, 8)


def test_smoke_has_the_limits_of_its_description():
    limits = load_track("smoke").limits
    assert (limits.train_s, limits.eval_s, limits.artifact_bytes) == (90.0, 900.0, 1_000_000)
    assert load_track("smoke").ranks == 1


def test_all_tracks_have_the_same_keys():
    assert {type(load_track(name).limits) for name in track_names()} == {Limits}


def test_the_digest_covers_every_limit():
    digests = {load_track(name).digest for name in track_names()}
    assert len(digests) == len(track_names())


def test_an_unknown_track_names_the_known_ones():
    with pytest.raises(UsageError, match="smoke"):
        load_track("smok")


def test_an_unknown_golf_variable_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="GOLF_CACHE_DIR"):
        check_environment({"GOLF_CACHE_DIRS": "/x"})
    check_environment(dict.fromkeys(VARIABLES, "x") | {"HOME": "/root"})


def test_an_empty_folder_variable_is_refused(monkeypatch):
    monkeypatch.setenv("GOLF_RECORDS_DIR", " ")
    with pytest.raises(UsageError, match="GOLF_RECORDS_DIR is empty"):
        records_dir()
