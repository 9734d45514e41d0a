"""CIFAR-10: finding, downloading and reading it, its splits, and batches from memory."""
