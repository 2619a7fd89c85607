"""Why MongoDB does not take an outcome, for the dead topic. Pure."""

from __future__ import annotations

from worker_glue.ports import Saved

NOT_TAKEN = frozenset({Saved.NO_JOB, Saved.TOO_LARGE, Saved.WRONG_FORM})
"""Answers after which an outcome has no entry, and never gets one by itself."""


def not_taken(saved: Saved, job_id: str) -> tuple[str, str]:
    """Return the reason, and the error for people, of an outcome that a job does not take. saved: of NOT_TAKEN."""
    match saved:
        case Saved.NO_JOB:
            return "unknown_job", f"there is no job {job_id}"
        case Saved.TOO_LARGE:
            return "document_full", "the job's document takes not even a short error any more"
        case _:
            return "document_form", (
                "the job's document takes no entry: its checkpoint, progress or consumed_count is not as the backend "
                "writes it; once that is mended: worker-glue job --dead --replay"
            )
