"""A row as the queue shows it."""

from dataclasses import dataclass

from nuat.campaign.ledger import Status
from nuat.campaign.plan import Row


@dataclass(frozen=True)
class Entry:
    """Where a row stands."""

    row: Row
    status: Status
    seconds: float | None
    """Seconds that it took, or that are left; none: not known."""
    note: str = ""
    """Why it failed."""
