"""The one exception that is shown to people."""


class UserError(Exception):
    """Something a person gave is wrong.

    The message is one line that names what is wrong and what would be right. Commands print it
    without a traceback and exit with status 2.
    """
