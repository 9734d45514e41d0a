"""The check of gradients written by hand, against autograd and central differences."""
