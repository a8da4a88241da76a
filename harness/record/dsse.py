"""DSSE v1 envelopes with Ed25519 (https://github.com/secure-systems-lab/dsse), in one exact encoding.

What is signed is the pre-authentication encoding (PAE) of payload type and payload, with lengths counted in bytes.
What is stored is the envelope as canonical JSON and one line feed. Reading refuses every other encoding of the same
envelope, so that one changed byte in a file, white space included, is always seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Envelope:
    """A payload, what it is, and the one signature that it carries: 64 raw bytes under a key id, SHA-256 in hex."""

    payload: bytes
    keyid: str
    signature: bytes
    payload_type: str = PAYLOAD_TYPE


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE v1 signs: ``DSSEv1 SP len(type) SP type SP len(payload) SP payload``.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, keyid: str, key: Ed25519PrivateKey, *, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """An envelope with the signature of ``key``."""
    return Envelope(payload, keyid, key.sign(pae(payload_type, payload)), payload_type)


def is_signed_by(envelope: Envelope, key: Ed25519PublicKey) -> bool:
    """Whether its signature is ``key``'s over this envelope's payload and payload type."""
    try:
        key.verify(envelope.signature, pae(envelope.payload_type, envelope.payload))
    except InvalidSignature:
        return False
    return True


class _Signature(msgspec.Struct):
    keyid: str
    sig: bytes  # in JSON base64, like the payload


class _Document(msgspec.Struct):
    payload: bytes
    payloadType: str
    signatures: list[_Signature]


def encode(envelope: Envelope) -> bytes:
    """The one byte string that stands for this envelope in a file: JSON with sorted keys and without spaces."""
    signatures = [_Signature(envelope.keyid, envelope.signature)]
    return msgspec.json.encode(_Document(envelope.payload, envelope.payload_type, signatures)) + b"\n"


def decode(data: bytes) -> Envelope:
    """Read an envelope. Raises ``ValueError`` for anything but the exact output of :func:`encode`, and says why."""
    try:
        found = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a DSSE envelope: {error}") from None
    if len(found.signatures) != 1:
        what = "several signatures; further ones belong into reviews/" if found.signatures else "no signature"
        raise ValueError(f"not a DSSE envelope: carries {what}")
    envelope = Envelope(found.payload, found.signatures[0].keyid, found.signatures[0].sig, found.payloadType)
    canonical = encode(envelope)
    if canonical != data:
        at = next((i for i, (a, b) in enumerate(zip(canonical, data, strict=False)) if a != b), len(canonical))
        raise ValueError(f"not in canonical form from byte {at:,} on: the file was edited or re-encoded")
    return envelope
