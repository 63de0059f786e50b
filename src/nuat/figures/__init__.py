"""Figures, one file each: options, computation, drawing and caption. ``catalogue`` lists them.

A file of a figure imports matplotlib inside its drawing functions alone, so that options and computation, and the
commands that need no picture, start without it.
"""
