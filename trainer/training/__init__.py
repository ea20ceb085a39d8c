"""The training run: Lightning module, schedule, checkpoints, evaluation, samples."""
