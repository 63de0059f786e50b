"""Pure mathematics: nuclear norm, threat, losses, schedules, averaging, random draws."""
