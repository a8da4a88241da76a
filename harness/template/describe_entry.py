"""Phase 0: check the configuration and declare it."""

from harness.protocol.session import DescribeSession

from .config import bigram_weight


def main() -> None:
    """Publish the configuration and the number of parameters."""
    session = DescribeSession.connect()
    try:
        weight = bigram_weight()
    except ValueError as error:
        session.fail(str(error))
        return
    session.publish({"bigram_weight": weight}, parameters=session.vocab_size * (session.vocab_size + 1))
    session.done()


if __name__ == "__main__":
    main()
