"""Training: ``nuat.training.run.run(config)`` and the loop behind it."""
