"""The networks of the report in NumPy, with every gradient derived by hand.

Neither torch nor Lightning is imported. ``docs/derivations.md`` derives the formulas, and
``scripts/check_gradients.py`` checks the gradients against autograd.

Everything computes in the dtype of its input, float32 or float64, and raises the same errors:

- TypeError for an input that is not a NumPy array.
- ValueError for an input of the wrong shape or dtype; the message says what was expected. NumPy
  would broadcast the shape and promote the dtype instead: the gradient would be wrong, or training
  twice as slow.
- ValueError for an argument of a constructor that is out of its documented range.
- RuntimeError for ``backward`` before ``forward``, and for ``step`` before ``backward``.
"""
