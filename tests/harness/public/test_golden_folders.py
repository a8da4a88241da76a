"""The 25 real folders: every finding as it was judged, with a comment on each FAIL and WARN."""

import pytest
from public_golden import COMMENTED, FIELDS, GOLDEN, data_folder, folders, load, result

DATA = data_folder()
NAMES = sorted(path.stem for path in GOLDEN.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.skipif(DATA is None, reason="no real folders: set PUBLIC_RECORDS, or put them at ../shared/public-records")
def test_a_real_folder_is_judged_as_before(name):
    known = [{key: item[key] for key in FIELDS} for item in load(name)]
    assert result(folders(DATA)[name]) == known


@pytest.mark.parametrize("name", NAMES)
def test_each_fail_and_warn_has_its_comment(name):
    assert all(item["comment"].endswith(".") for item in load(name) if item["verdict"] in COMMENTED)


def test_there_are_25_golden_folders():
    assert len(NAMES) == 25
