"""What goes wrong on a command line, and how the shell learns of it."""

DONE, INCOMPLETE, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all done; some photographs failed, the others are done; nothing was begun, the
message says why (also argparse's code); stopped by Ctrl-C, finished files are whole."""


class UserError(Exception):
    """Something the user can put right; its message is all that is shown."""
