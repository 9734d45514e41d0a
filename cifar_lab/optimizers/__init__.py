"""Optimizers and schedules that PyTorch does not have in the form that the fast models need."""
