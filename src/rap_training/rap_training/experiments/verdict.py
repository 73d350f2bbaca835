"""Whether an expected effect appeared, in words that follow from the intervals alone."""

from __future__ import annotations

from enum import Enum

from rap_training.experiments.intervals import Estimate


class Verdict(Enum):
    """What can be said about a claim."""

    MISSING = "not measured, or not in all trainings"
    TOO_FEW = "no verdict: an arm has a single training, or all of its trainings are equal"
    NO_ROUTE = "not judged: one of the arms completes less than a fifth of the routes"
    APPEARED = "the effect appeared; the intervals do not overlap"
    OVERLAP = "it points the expected way, but the intervals overlap"
    ABSENT = "the effect did not appear"
    REVERSED = "the effect did not appear; the opposite did, and the intervals do not overlap"


def judge(better: Estimate | None, than: Estimate | None, *, lower_is_better: bool) -> Verdict:
    """Compares two arms.

    Args:
        better: Of the arm that is expected to be better; None if it was not measured.
        than: Of the other one.
        lower_is_better: For errors.
    """
    if better is None or than is None:
        return Verdict.MISSING
    if better.interval is None or than.interval is None:
        return Verdict.TOO_FEW
    apart = better.interval[0] > than.interval[1] or than.interval[0] > better.interval[1]
    if (better.mean < than.mean) if lower_is_better else (better.mean > than.mean):
        return Verdict.APPEARED if apart else Verdict.OVERLAP
    return Verdict.REVERSED if apart else Verdict.ABSENT
