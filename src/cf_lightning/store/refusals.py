"""What a file system refuses, in words that say what to do."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cf_lightning.errors import StoreError

FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
FAILING = (errno.EIO, errno.ESTALE, errno.EISDIR)


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn the file system's refusals into a ``StoreError`` that says what to do."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        code = error.errno if isinstance(error, OSError) else _os_error(error)
        if code in FULL:
            free = shutil.disk_usage(root if root.exists() else root.parent).free / 2**20
            raise StoreError(
                f"runtime.store={root}: the disk is full ({free:,.0f} MiB free); what is done is kept: "
                "make room or move the store, then start the same command again"
            ) from error
        if code in READ_ONLY:
            raise StoreError(
                f"runtime.store={root}: cannot be written ({os.strerror(code)}); set runtime.store=FOLDER"
            ) from error
        if code in FAILING and isinstance(error, OSError):
            raise StoreError(f"{error.filename or root}: cannot be read ({os.strerror(code)})") from error
        if isinstance(error, FileNotFoundError) and str(root) in f"{error} {error.filename}":
            raise StoreError(
                f"runtime.store={root}: {error.filename or error} is gone, which this run used; start the "
                "same command again, and what is missing is made anew"
            ) from error
        raise


def _os_error(error: SafetensorError) -> int | None:
    """The number in ``... (os error 28)``, as safetensors reports the file system's refusals."""
    number = re.search(r"os error (\d+)", str(error))
    return int(number.group(1)) if number else None
