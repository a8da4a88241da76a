"""The driver of these tests looks often and waits briefly: their queues lie on a disk of this machine."""

import pytest

from harness.fleet import driver


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("GOLF_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(driver, "POLL_S", 0.02)
    monkeypatch.setattr(driver, "SETTLE_S", 0.3)
