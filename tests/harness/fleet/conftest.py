"""The driver of these tests looks often and waits briefly: their queues lie on a disk of this machine."""

import pytest
from tiny_run import share_copies

from harness.fleet import driver


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    share_copies(cache := tmp_path_factory.getbasetemp() / "cache")
    monkeypatch.setenv("GOLF_CACHE_DIR", str(cache))
    monkeypatch.setattr(driver, "POLL_S", 0.02)
    monkeypatch.setattr(driver, "SETTLE_S", 0.3)
