"""Uses of a trained model: evaluation, prediction and export, from a checkpoint alone."""
