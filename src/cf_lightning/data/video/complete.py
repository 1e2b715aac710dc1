"""Whether a video file is all there, by the sizes that containers say at their beginning.

FFmpeg plays what is left of a truncated Matroska or AVI file as if it were the whole.
"""

import os
from typing import BinaryIO

# boxes of the outermost level (ISO/IEC 14496-12, 4.2 and table 1); anything else may be padding
BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta"}
BOXES |= {b"sidx", b"ssix", b"mfra", b"pdin", b"emsg", b"prft", b"udta", b"pnot"}
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut_short(file: BinaryIO) -> bool:
    """Whether an MP4, MOV, AVI, Matroska or WebM file ends before it says it does; False of any other."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if head[4:8] in BOXES:
        return _boxes_cut_short(file, size)
    if head[:4] == b"RIFF":
        return _riff_end(head) > size
    if head[:4] == EBML:
        return _segment_end(head) > size
    return False


def _boxes_cut_short(file: BinaryIO, size: int) -> bool:
    position, seen = 0, set()
    while position < size:
        file.seek(position)
        head = file.read(16)
        kind, length = head[4:8], int.from_bytes(head[:4])
        if kind not in BOXES:
            break
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(head[8:16])
        elif length == 0:  # up to the end of the file, whatever that is
            length = size - position
        seen.add(kind)
        position += max(length, 8)
    return position > size or b"moov" not in seen


def _riff_end(head: bytes) -> int:
    """Of the first RIFF chunk; 0 and the largest number stand for a size that nobody knew."""
    length = int.from_bytes(head[4:8], "little")
    return 0 if length in (0, 0xFFFFFFFF) else 8 + length


def _segment_end(head: bytes) -> int:
    """Of Matroska's one segment, which follows its header (RFC 8794, 4 and 6; RFC 9559, 5.1)."""
    position, length, _ = _variable_integer(head, 4)
    position += length
    if head[position : position + 4] != SEGMENT:
        return 0
    position, length, known = _variable_integer(head, position + 4)
    return position + length if known else 0


def _variable_integer(data: bytes, position: int) -> tuple[int, int, bool]:
    """Where the integer ends, its value, and whether it is one: all bits set means unknown."""
    width = 9 - (data[position] if position < len(data) else 0).bit_length()
    mask = (1 << 7 * width) - 1
    value = int.from_bytes(data[position : position + width]) & mask
    return position + width, value, width < 9 and value != mask
