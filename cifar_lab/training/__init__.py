"""Training from settings to a finished run: trainer, run folder, checkpoints and summary."""
