"""What a user can do wrong, in three classes.

All of them are Hydra compact exceptions: the message alone reaches stderr, the exit code is not
zero, and the other jobs of a multirun go on (``HYDRA_FULL_ERROR=1`` brings the traceback back).
"""

import re

from hydra.errors import CompactHydraException

# what a terminal obeys instead of showing it: control characters but tab and line feed, turned writing
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """A text that may hold names out of data, with control characters as Python escapes them."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class UserError(CompactHydraException):
    """Something outside the program has to change; the message says what."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ConfigError(UserError):
    """A key of the configuration has a value that cannot work."""


class DataError(UserError):
    """A file of the user's data is missing, unreadable or contradicts another."""


class Undecodable(DataError):
    """A sample is missing or damaged: what ``on_error: skip`` leaves out."""


class StoreError(UserError):
    """The store cannot be written, or what lies in it is not what its manifest says."""
