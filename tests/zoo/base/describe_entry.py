from harness.protocol.session import DescribeSession

from .visit import visit

if __name__ == "__main__":
    session = DescribeSession.connect()
    session.publish({"zoo": True}, parameters=session.vocab_size**2)
    visit("describe", session)
    session.done()
