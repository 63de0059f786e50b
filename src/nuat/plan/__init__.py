"""Cost of a run before it is paid for: hours, memory, communication, data rate, disk.

``step_costs`` takes a few steps of the real training on made-up images and counts what they do; ``estimate`` turns that
into the figures of a run on N devices, by the formulas of docs/scale.md.
"""
