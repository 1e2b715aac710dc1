"""What a user can do wrong, in three classes.

All of them are Hydra compact exceptions: the message alone reaches stderr, the exit code is not
zero, and the other jobs of a multirun go on (``HYDRA_FULL_ERROR=1`` brings the traceback back).
"""

from hydra.errors import CompactHydraException


class UserError(CompactHydraException):
    """Something outside the program has to change; the message says what."""


class ConfigError(UserError):
    """A key of the configuration has a value that cannot work."""


class DataError(UserError):
    """A file of the user's data is missing, unreadable or contradicts another."""


class Undecodable(DataError):
    """A sample is missing or damaged: what ``on_error: skip`` leaves out."""


class StoreError(UserError):
    """The store cannot be written, or what lies in it is not what its manifest says."""
