"""Phase 2, run by the referee: quantise and pack the checkpoint. No data is readable here."""

import os

from harness.protocol.session import PackageSession

from .checkpoint import CheckpointError
from .config import ConfigError, load_config
from .package.fit import DoesNotFit
from .package.gptq import NotQuantisable
from .package.pack import default_device, package
from .train.shares import use_cores


def main() -> None:
    """Pick the device and pack."""
    session = PackageSession.connect()
    use_cores(session.cpu_cores, session.gpus)
    try:
        package(session, load_config(os.environ, session.track), default_device(session.gpus))
    except (CheckpointError, ConfigError, DoesNotFit, NotQuantisable) as error:
        session.fail(str(error))
    session.done()


if __name__ == "__main__":
    main()
