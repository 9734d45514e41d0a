"""From settings to a finished run: trainer, run folder, checkpoints and summary."""
