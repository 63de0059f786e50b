"""Campaigns: many recipes and seeds under one evaluation, in one command that can be cut off and given again.

``load`` reads a campaign, ``Runner`` runs it in the folder that a ``Ledger`` reads.
"""

from nuat.campaign.ledger import Ledger, Status
from nuat.campaign.plan import Campaign, Row, Suite, built_in, load
from nuat.campaign.queue import Entry
from nuat.campaign.runner import Runner

__all__ = ["Campaign", "Entry", "Ledger", "Row", "Runner", "Status", "Suite", "built_in", "load"]
