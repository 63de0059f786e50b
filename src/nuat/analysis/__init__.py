"""Runs that are finished, and their settings, for the figures."""
