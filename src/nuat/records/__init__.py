"""Folder of a run: settings, environment, metrics and artifacts.

| file | content |
|---|---|
| config.json | recipe and every setting |
| environment.json | versions, hardware, git revision, command |
| split.json | positions of the validation images in the source's training part; files left out |
| metrics.jsonl | one JSON object a line: epochs, alarms, switches, starts, the end |
| checkpoint.pt | full state, to resume from |
| best.safetensors, last.safetensors | weights to ship |
| evaluation.json | verdicts of the attacks on the best weights |
| curves.png, examples.png | losses, accuracies and schedules over the epochs; images before and after an attack |
| tensorboard/ | the same curves as events |
"""
