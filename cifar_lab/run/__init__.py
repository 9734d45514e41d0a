"""Runs on disk: their folders and files, and :class:`Run`, which reads them.

The package is not called ``runs`` because ``cifar_lab.runs`` is the function that lists them.
"""
