"""The driver of these tests looks often and waits briefly: their queues lie on a disk of this machine."""

import pytest

from harness.config.variables import cache_dir
from harness.fleet import driver
from harness.run.cells import COPIES


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    own, common = tmp_path_factory.getbasetemp() / "cache", cache_dir() / COPIES
    if not own.exists():  # copies of packages take long to make: one for all tests
        own.mkdir()
        common.mkdir(parents=True, exist_ok=True)
        (own / COPIES).symlink_to(common)
    monkeypatch.setenv("GOLF_CACHE_DIR", str(own))
    monkeypatch.setattr(driver, "POLL_S", 0.02)
    monkeypatch.setattr(driver, "SETTLE_S", 0.3)
