"""The exceptions that are shown to people."""


class UserError(Exception):
    """Something a person gave is wrong.

    The message is one line that names what is wrong and what would be right. Commands print it
    without a traceback and exit with status 2.
    """


class LostProgramError(Exception):
    """A program that this process depends on has ended: starting both again may help.

    The message is one line. Nodes print it without a traceback and exit with status 1.
    """
