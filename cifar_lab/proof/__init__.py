"""The proof that gradients written by hand are right: against autograd and central differences."""
