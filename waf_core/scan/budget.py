"""What making plans may cost one phase of a transaction."""

from __future__ import annotations

from dataclasses import dataclass

NEW_PLANS = 32
"""Plans that one phase may make (15 to 50 us each)."""


@dataclass(slots=True)
class PlanBudget:
    """Plans that may still be made; then the plan for all classes of bytes has to do.  Shared by the
    planners of one PatternSet, and filled when a phase begins."""

    left: int = 0
