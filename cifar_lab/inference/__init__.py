"""What a trained model is used for: evaluation, prediction and export, from a checkpoint alone."""
