"""The one exception that means: the user's input is wrong, and here is what to do.

The command line prints its message without a traceback and exits with status 2. The message says
what came, what was expected, and which flag or path to change, in one or two lines.
"""


class UserError(ValueError):
    """Wrong input by the user: a flag, a file or a folder."""
