"""Input that wants more than to be read: code, ways out of a folder, bombs, names that a page would obey."""

from collections.abc import Iterator

import hostile_code
import hostile_data
import hostile_names
from case import Case

KIND = "hostile input"


def cases() -> Iterator[Case]:
    """Each attempt has to end in one message, or to be harmless where it is only a name."""
    for part in (hostile_code, hostile_data, hostile_names):
        yield from part.cases(KIND)
