"""The optimizer and the schedule of the fast models, which PyTorch does not have in this form."""
