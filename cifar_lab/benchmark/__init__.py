"""What the package costs and saves, measured side by side with plain loops in the same run."""
