"""CIFAR-10: where it comes from, how it is split, and the batches that models see."""
