"""Campaigns: many recipes and seeds under one evaluation, run by one command that can be interrupted and repeated.

``load`` reads a campaign, ``Runner`` runs it, and a ``Ledger`` reads its folder.
"""

from nuat.campaign.definition import Campaign, CampaignRow, Suite, built_in, load
from nuat.campaign.ledger import Ledger, QueueEntry, RowStatus
from nuat.campaign.runner import Runner

__all__ = ["Campaign", "CampaignRow", "Ledger", "QueueEntry", "RowStatus", "Runner", "Suite", "built_in", "load"]
