"""The one exception for everything that the user can put right."""


class InputError(Exception):
    """Bad input or configuration: one line that says what is wrong, where, and what to do.

    Every entry point prints it as a single line and ends with exit code 2.
    """


class DivergedError(InputError):
    """The loss left the numbers: other settings may do better."""
