"""One unmodified script from its file to a signed record of kind ``self-reported``: what ``harness script`` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.cli.progress import Reporter
from harness.config.environment import cache_dir, keys_dir
from harness.config.tracks import load_track
from harness.data import open_dataset
from harness.phases.reserve import reserved
from harness.phases.selfreported import LABEL, run_script, seal_script
from harness.phases.submit import RunOutcome, new_run_dir
from harness.record import Intent, announce, canonical_digest, open_signing_key, sign_and_store, utc_now


def submit_script(
    *,
    script: Path,
    track_name: str,
    dataset_name: str | None,
    seed: int,
    artifact: str,
    variables: Mapping[str, str],
    records_dir: Path,
    progress: Reporter,
) -> RunOutcome:
    """Announce, run, sign. Raises ``UsageError`` before anything starts, else what ``run_script`` raises."""
    track = load_track(track_name)
    track.refuse_when_closed(utc_now())
    with reserved(track.hardware, f"track {track.name}"):
        open_signing_key(keys_dir(), records_dir)
        dataset = open_dataset(dataset_name or track.dataset, cache_dir() / "datasets", progress)
        dataset.require_vocab(track.vocab_size, f"track {track.name}")
        run_dir = new_run_dir(track.name, seed)
        sealed = seal_script(script, run_dir, artifact=artifact, variables=variables)
        intent = Intent(
            run_id=run_dir.name,
            announced_at=utc_now(),
            track=track.name,
            track_digest=track.digest,
            submission=f"{sealed.name} ({LABEL})",
            code_digest=sealed.code_digest,
            config_digest=canonical_digest(sealed.config),
            data_fingerprint=dataset.fingerprint,
            seed=seed,
        )
        record = run_script(
            sealed,
            track=track,
            dataset=dataset,
            seed=seed,
            run_dir=run_dir,
            progress=progress,
            intent_digest=announce(intent, records_dir, keys_dir()),
        )
        stored = sign_and_store(record, run_dir / "artifact", records_dir, keys_dir())
    return RunOutcome(stored.record, stored.path, run_dir)
