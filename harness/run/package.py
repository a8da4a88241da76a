"""Phase 2: checkpoint to artifact, without any data; then the artifact is checked and counted."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from harness.errors import RuleBroken
from harness.protocol.messages import Kind, Message
from harness.protocol.session import MODEL_FILE
from harness.record.predicate import Sizes
from harness.run.cells import phase_cell
from harness.run.context import RunContext
from harness.run.conversation import PhaseFailed, PhaseTimeout, await_all, failure
from harness.run.count import artifact_sizes, model_budget
from harness.run.model_file import read_model_file
from harness.run.seal import unpack_sealed

OVERSIZE_READ = 4  # a model file is read up to this many times the cap, so that the verdict can name its size


def package(context: RunContext, *, limit_s: float, budget: str) -> Sizes:
    """Run the package phase and collect the counted files in ``context.artifact_dir``.

    limit_s: seconds left in the budget that packaging counts in. Raises ``RuleBroken`` when the clock runs out, when a
    rank fails or when the model file is no sound container; a file over the cap is left to the count.
    """
    track, sealed = context.track, context.sealed
    room = model_budget(track, bundle_bytes=sealed.bundle_bytes, raw_bytes=sealed.raw_bytes)
    if room <= 0:
        raise RuleBroken("A3-ARTIFACT-BYTES", f"the code alone is {-room:,} bytes over the cap.", remedy="Shorten it.")
    output = context.run_dir / "package"
    output.mkdir()
    with (
        context.progress.stage("package", limit_s, "s") as stage,
        context.clock.span("package", limit_s=limit_s, budget=budget) as span,
        phase_cell(
            context,
            "package",
            module=sealed.manifest.entry.package,
            limit_s=limit_s,
            read=(context.checkpoint_dir,),
            write=(output,),
            extra={
                "GOLF_CHECKPOINT_DIR": str(context.checkpoint_dir),
                "GOLF_OUTPUT_DIR": str(output),
                "GOLF_MODEL_BUDGET_BYTES": str(room),
            },
        ) as cell,
    ):
        started = time.monotonic()

        def report(_: int, message: Message) -> None:
            stage.update(min(limit_s, time.monotonic() - started), message.text)

        try:
            cell.channels[0].send(Message(Kind.START, span.start_ns))
            await_all(cell, Kind.DONE, span.deadline_ns, report)
            cell.stop()  # what it would do after its DONE would not be on the clock
        except PhaseTimeout:
            late = cell.kill("the package limit", span.deadline_ns)
            reason = f"not done after {limit_s:.1f} s (everything was stopped {late.stop_ms:.0f} ms after)"
            rule = "A1-TRAIN-CLOCK" if budget == "train" else "A2-EVAL-CLOCK"
            raise failure(context, "package", reason, rule=rule, remedy="Package faster.") from None
        except (PhaseFailed, OSError) as error:
            raise failure(context, "package", str(error)) from None
    context.artifact_dir.mkdir()
    shutil.copyfile(sealed.bundle, context.artifact_dir / "code.bundle")
    return lay_out(context, output / MODEL_FILE)


def lay_out(context: RunContext, packed: Path) -> Sizes:
    """Copy the checked model file to the artifact, and lay out the closure from the artifact's two files alone."""
    limits, sealed = context.track.limits, context.sealed
    model = read_model_file(
        packed, max_bytes=OVERSIZE_READ * limits.artifact_bytes, max_unpacked_bytes=limits.unpacked_bytes
    )
    (context.artifact_dir / MODEL_FILE).write_bytes(model)
    unpack_sealed((context.artifact_dir / "code.bundle").read_bytes(), context.closure_dir / "code")
    shutil.copyfile(context.artifact_dir / MODEL_FILE, context.closure_dir / MODEL_FILE)
    return artifact_sizes(
        context.track, bundle_bytes=sealed.bundle_bytes, raw_bytes=sealed.raw_bytes, model_bytes=len(model)
    )
