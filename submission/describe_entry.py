"""Phase 0, run by the referee: check the configuration and declare it, before any data is touched."""

import os

from harness.protocol.session import DescribeSession

from .config import ConfigError, as_scalars, resolve
from .model.hybrid import parameter_count


def main() -> None:
    """Publish the configuration and the number of parameters."""
    session = DescribeSession.connect()
    try:
        config, notes = resolve(os.environ, session.track)
    except ConfigError as error:
        session.fail(str(error))
    session.publish(as_scalars(config), parameter_count(config), notes)
    session.done()


if __name__ == "__main__":
    main()
