"""The journal entries that a node writes."""

from __future__ import annotations

from dataclasses import replace

from nodeimage.protocol import Claim, Failure, JournalEntry, Outcome

from .rendering import Attempt, Opened, Result


def opened_entry(node: str, opened: Opened, *, at_ms: int, peak_memory_bytes: int) -> JournalEntry:
    """Blender has the file open."""
    return JournalEntry(
        outcome=Outcome.OPENED,
        node=node,
        at_ms=at_ms,
        open_s=opened.open_s,
        peak_memory_bytes=peak_memory_bytes,
        blender_version=opened.version,
        device=opened.device,
        findings=opened.findings,
    )


def attempt_entry(claim: Claim, result: Result, *, attempt: Attempt | None, opened: Opened | None, at_ms: int) -> JournalEntry:
    """An attempt ended. Shape: `attempt` and `opened` are None if the file could not be opened"""
    return JournalEntry(
        outcome=Outcome.FAILED if result.failure else Outcome.FINISHED,
        node=claim.node,
        at_ms=at_ms,
        frame=claim.frame,
        attempt=claim.attempt,
        nonce=claim.nonce,
        outputs=result.outputs,
        has_preview=result.has_preview,
        render_s=result.render_s,
        peak_memory_bytes=result.peak_memory_bytes,
        failure=result.failure,
        message=result.message,
        blender_version=opened.version if opened else "",
        device=opened.device if opened else "",
        persistent_data=attempt.settings.persistent_data if attempt else True,
    )


def log_of(result: Result) -> bytes:
    """What Blender wrote; where it wrote nothing, why the attempt failed: people look for the log of a failed frame."""
    if result.log_text or result.failure is None:
        return result.log_text
    return f"Blender wrote nothing.\n{result.message}\n".encode()


def interrupted_entry(claim: Claim, reason: str) -> JournalEntry:
    """A claimed frame is given up through no fault of its own."""
    return JournalEntry(
        outcome=Outcome.INTERRUPTED,
        node=claim.node,
        at_ms=claim.at_ms,
        frame=claim.frame,
        attempt=claim.attempt,
        nonce=claim.nonce,
        message=reason,
    )


def given_up(entry: JournalEntry, reason: str) -> JournalEntry:
    """A rendered frame is not delivered through no fault of its own."""
    return replace(entry, outcome=Outcome.INTERRUPTED, outputs=(), has_preview=False, message=f"rendered, not delivered: {reason}")


def undelivered(entry: JournalEntry, why: str) -> JournalEntry:
    """What is said of an attempt whose files can't be delivered. A failed one stays what it is."""
    if entry.outcome is not Outcome.FINISHED:
        return replace(entry, outputs=(), has_preview=False)
    return replace(entry, outcome=Outcome.FAILED, failure=Failure.DELIVERY, message=why, outputs=(), has_preview=False)
