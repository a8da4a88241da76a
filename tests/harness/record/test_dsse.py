"""Our envelopes against the DSSE specification's vectors and against an independent implementation."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from securesystemslib import dsse as other_dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from harness.record import dsse

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
THEIR_KEY = SSlibKey.from_crypto(KEY.public_key(), keyid="k1")


@given(st.binary(max_size=200), st.text(max_size=20).filter(lambda t: "\ud800" not in t))
def test_pae_agrees_with_securesystemslib(payload: bytes, kind: str):
    assert dsse.pae(kind, payload) == other_dsse.Envelope(payload, kind, {}).pae()


@given(st.binary(max_size=200))
def test_securesystemslib_verifies_ours_and_we_verify_theirs(payload: bytes):
    ours = json.loads(dsse.encode(dsse.sign(payload, "k1", KEY)))
    other_dsse.Envelope.from_dict(ours).verify([THEIR_KEY], 1)
    theirs = other_dsse.Envelope(payload, dsse.PAYLOAD_TYPE, {})
    theirs.sign(CryptoSigner(KEY, THEIR_KEY))
    document = json.dumps(theirs.to_dict(), sort_keys=True, separators=(",", ":")).encode() + b"\n"
    envelope = dsse.decode(document)
    assert envelope.payload == payload
    assert dsse.is_signed_by(envelope, KEY.public_key())


def test_a_changed_type_and_a_changed_payload_are_refused():
    envelope = dsse.sign(b"payload", "k1", KEY)
    assert not dsse.is_signed_by(replace(envelope, payload_type="text/plain"), KEY.public_key())
    forged = replace(envelope, payload=b"Payload")
    assert not dsse.is_signed_by(forged, KEY.public_key())
    with pytest.raises(VerificationError):
        other_dsse.Envelope.from_dict(json.loads(dsse.encode(forged))).verify([THEIR_KEY], 1)


@given(st.binary(max_size=300))
def test_rubbish_is_refused(data: bytes):
    with pytest.raises(ValueError, match="not a DSSE envelope"):
        dsse.decode(data)


MALFORMED = {
    "unsigned": (lambda d: d.update(signatures=[]), "no signature"),
    "signed-twice": (lambda d: d.update(signatures=d["signatures"] * 2), "several signatures"),
    "more-fields": (lambda d: d.update(more=1), "canonical"),
    "no-payload": (lambda d: d.pop("payload"), "payload"),
    "payload-number": (lambda d: d.update(payload=5), "int"),
    "not-ascii": (lambda d: d.update(payload="é"), "envelope"),
    "bad-base64": (lambda d: d["signatures"][0].update(sig="!"), "envelope"),
    "no-padding": (lambda d: d.update(payload=base64.b64encode(b"ab").decode().rstrip("=")), "envelope"),
}


@pytest.mark.parametrize(("change", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_envelope_is_refused_with_its_reason(change, reason):
    document = json.loads(dsse.encode(dsse.sign(b"ab", "k1", KEY)))
    change(document)
    with pytest.raises(ValueError, match=reason):
        dsse.decode(json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def test_equal_keys_and_deep_nesting_are_refused():
    once = dsse.encode(dsse.sign(b"ab", "k1", KEY))
    with pytest.raises(ValueError, match="not in canonical form"):
        dsse.decode(once.replace(b'"payloadType"', b'"payload":"YWI=","payloadType"'))
    for data in (b"[" * 100_000, b'{"x":' + b"[" * 100_000):
        with pytest.raises(ValueError, match="not a DSSE envelope"):
            dsse.decode(data)
