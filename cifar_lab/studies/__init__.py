"""Experiments that answer a question with a table and a figure; results stand in ``docs/``."""
