"""What else may lie where a picture is looked for.

Each is made in a folder, and says what a message has to have; ``None`` where it cannot be made here.
"""

import os
import socket
from pathlib import Path


def fifo(folder: Path) -> str | None:
    os.mkfifo(folder / "pipe.png")
    return "pipe.png"


def device(folder: Path) -> str | None:
    (folder / "null.png").symlink_to("/dev/null")
    return "null.png"


def endless(folder: Path) -> str | None:
    (folder / "zero.png").symlink_to("/dev/zero")
    return "zero.png"


def socket_file(folder: Path) -> str | None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)  # its path may be longer than a socket's address
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.png")
    finally:
        os.fchdir(here)
        os.close(here)
    return "socket.png"


def link_to_nothing(folder: Path) -> str | None:
    (folder / "gone.png").symlink_to("nowhere.png")
    return "gone.png"


def link_to_itself(folder: Path) -> str | None:
    (folder / "loop.png").symlink_to("loop.png")
    return "loop.png"


def unreadable(folder: Path) -> str | None:
    if os.geteuid() == 0:
        return None  # who may read everything
    (folder / "secret.png").write_bytes(b"x")
    (folder / "secret.png").chmod(0)
    return "secret.png"


def folder_loop(folder: Path) -> str | None:
    (folder / "below").symlink_to("..")
    return "below"


def sparse(folder: Path) -> str | None:
    with open(folder / "large.png", "wb") as file:
        file.truncate(50 * 2**30)
    return "large.png"


MAKERS = (
    *(fifo, device, endless, socket_file),
    *(link_to_nothing, link_to_itself, unreadable, folder_loop, sparse),
)
