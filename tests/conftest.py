"""What holds for all tests: hypothesis measures no time, and ``gpu`` tests say so where there is no CUDA device."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # each of two processes has one of two cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from harness.cli.main import run
from harness.run import machine

# By default an example that takes 200 ms fails its test, and so does a pause of a busy machine.
settings.register_profile(
    "untimed", parent=settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")

# Nor does a verdict depend on what else the machine does; what others take is tested with figures of its own.
machine.LOOK_S = 0.001
machine.MachineWatch.really_took = machine.MachineWatch.others_took
machine.MachineWatch.others_took = lambda *_, **__: 0.0


@pytest.fixture
def harness(capsys: pytest.CaptureFixture[str]):
    """The command line as a user calls it: ``harness("verify", path)`` -> (exit code, output, error output)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run([str(argument) for argument in arguments])
        return int(ended.value.code or 0), *capsys.readouterr()

    return call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))
