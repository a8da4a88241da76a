"""The driver of these tests looks often and waits briefly: their queues lie on a disk of this machine."""

import pytest

from harness.fleet import driver


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "POLL_S", 0.02)
    monkeypatch.setattr(driver, "SETTLE_S", 0.3)
