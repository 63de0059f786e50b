"""What a run will cost before it is paid for: hours, memory, communication, data rate, disk.

``measure`` takes a few steps of the real training on made-up images and counts what they do; ``forecast`` turns that
into figures for a number of devices, by the formulas of docs/scale.md.
"""
