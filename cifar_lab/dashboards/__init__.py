"""What TensorBoard and the terminal show of a run."""
