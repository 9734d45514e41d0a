"""The networks of the report in NumPy, every gradient by hand; neither torch nor Lightning.

One layer a file. `docs/derivations.md` derives what they compute, and
`scripts/check_gradients.py` checks it against autograd.
"""
