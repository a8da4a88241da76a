"""DSSE v1 envelopes with Ed25519 (https://github.com/secure-systems-lab/dsse), in one exact encoding.

What is signed is the pre-authentication encoding (PAE) of payload type and payload, with lengths counted in bytes.
What is stored is the envelope as canonical JSON and one line feed. Reading refuses every other encoding of the same
envelope, so that one changed byte in a file, white space included, is always seen.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from harness.record.canonical import strict_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Signature:
    """One signature: SHA-256 key id in hex, and 64 raw bytes."""

    keyid: str
    value: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload, what it is, and who signed it."""

    payload: bytes
    signatures: tuple[Signature, ...]
    payload_type: str = PAYLOAD_TYPE


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE v1 signs: ``DSSEv1 SP len(type) SP type SP len(payload) SP payload``.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, keyid: str, key: Ed25519PrivateKey, *, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """An envelope with one signature."""
    return Envelope(payload, (Signature(keyid, key.sign(pae(payload_type, payload))),), payload_type)


def is_signed_by(envelope: Envelope, signature: Signature, key: Ed25519PublicKey) -> bool:
    """Whether ``signature`` is ``key``'s over this envelope's payload and payload type."""
    try:
        key.verify(signature.value, pae(envelope.payload_type, envelope.payload))
    except InvalidSignature:
        return False
    return True


def encode(envelope: Envelope) -> bytes:
    """The one byte string that stands for this envelope in a file."""
    signatures = [{"keyid": s.keyid, "sig": base64.b64encode(s.value).decode()} for s in envelope.signatures]
    payload = base64.b64encode(envelope.payload).decode()
    document = {"payload": payload, "payloadType": envelope.payload_type, "signatures": signatures}
    # For objects of nothing but text, sorted and without spaces, this is the RFC 8785 form, and ten times faster.
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def decode(data: bytes) -> Envelope:
    """Read an envelope. Raises ``ValueError`` for anything but the exact output of :func:`encode`, and says why."""
    try:
        document = strict_json(data)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    try:
        kind, texts = document["payloadType"], [document["payload"], *(s["sig"] for s in document["signatures"])]
        keyids = [s["keyid"] for s in document["signatures"]]
        if wrong := [value for value in (kind, *texts, *keyids) if not isinstance(value, str)]:
            raise TypeError(f"wanted text, found {type(wrong[0]).__name__}")
        payload, *values = (base64.b64decode(text, validate=True) for text in texts)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a DSSE envelope: {type(error).__name__}: {error}") from error
    if not values:
        raise ValueError("the envelope carries no signature")
    envelope = Envelope(payload, tuple(map(Signature, keyids, values)), kind)
    canonical = encode(envelope)
    if canonical != data:
        at = next((i for i, (a, b) in enumerate(zip(canonical, data, strict=False)) if a != b), len(canonical))
        raise ValueError(f"not in canonical form from byte {at:,} on: the file was edited or re-encoded")
    return envelope
