"""DSSE v1 envelopes with Ed25519 (https://github.com/secure-systems-lab/dsse), in one exact encoding.

What is signed is the pre-authentication encoding (PAE) of payload type and payload, with lengths counted in bytes.
What is stored is the envelope as canonical JSON and one line feed. Reading refuses every other encoding of the same
envelope, so that one changed byte in a file, white space included, is always seen.
"""

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Signature(msgspec.Struct, frozen=True):
    """64 raw bytes (in JSON base64, like the payload) under a key id, SHA-256 in hex."""

    keyid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True):
    """A payload, what it is, and the one signature that it carries."""

    payload: bytes
    payload_type: str = msgspec.field(name="payloadType")
    signatures: tuple[Signature, ...]

    @property
    def keyid(self) -> str:
        """Id of the key that is said to have signed."""
        return self.signatures[0].keyid


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE v1 signs: ``DSSEv1 SP len(type) SP type SP len(payload) SP payload``.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, keyid: str, key: Ed25519PrivateKey, *, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """An envelope with the signature of ``key``."""
    return Envelope(payload, payload_type, (Signature(keyid, key.sign(pae(payload_type, payload))),))


def is_signed_by(envelope: Envelope, key: Ed25519PublicKey) -> bool:
    """Whether its signature is ``key``'s over this envelope's payload and payload type."""
    try:
        key.verify(envelope.signatures[0].sig, pae(envelope.payload_type, envelope.payload))
    except InvalidSignature:
        return False
    return True


def encode(envelope: Envelope) -> bytes:
    """The one byte string that stands for this envelope in a file: JSON with sorted keys and without spaces."""
    return msgspec.json.encode(envelope) + b"\n"


def decode(data: bytes) -> Envelope:
    """Read an envelope. Raises ``ValueError`` for anything but the exact output of :func:`encode`, and says why."""
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a DSSE envelope: {error}") from None
    if len(envelope.signatures) != 1:
        what = "several signatures; further ones belong into reviews/" if envelope.signatures else "no signature"
        raise ValueError(f"not a DSSE envelope: carries {what}")
    if (canonical := encode(envelope)) != data:
        at = next((i for i, (a, b) in enumerate(zip(canonical, data, strict=False)) if a != b), len(canonical))
        raise ValueError(f"not in canonical form from byte {at:,} on: the file was edited or re-encoded")
    return envelope
