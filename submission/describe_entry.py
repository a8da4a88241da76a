"""Phase 0, run by the referee: check the configuration and declare it, before any data is touched."""

import os

from harness.protocol.session import DescribeSession

from .config import ConfigError, as_scalars, load_config
from .model.hybrid import parameter_count


def main() -> None:
    """Publish the configuration and the number of parameters."""
    session = DescribeSession.connect()
    try:
        config = load_config(os.environ, session.track)
    except ConfigError as error:
        session.fail(str(error))
    if config.vocab_size != session.vocab_size:
        session.fail(f"VOCAB_SIZE is {config.vocab_size}; the track's data set has {session.vocab_size} tokens.")
    session.publish(as_scalars(config), parameter_count(config))
    session.done()


if __name__ == "__main__":
    main()
