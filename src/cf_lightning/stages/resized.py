"""The stage that decodes every image once, so that later ones begin with small ones."""

import io
import itertools
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

import numpy as np

from cf_lightning.data.cache import Cache, Resized, shard_name
from cf_lightning.data.containers import tar_members
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.index import Index
from cf_lightning.data.watch import NONE, Watch, reads
from cf_lightning.errors import DataError, Undecodable
from cf_lightning.progress import progress_bar
from cf_lightning.stages.base import Stage

if TYPE_CHECKING:
    from cf_lightning.data.picture import Picture

BLOCK = 32  # images that a loader process hands over at a time
ENDINGS = {"jpeg": ".jpg", "raw": ".npy"}
SAMPLED = 16  # images whose headers tell what all will take
JPEG_SHARE = 0.26  # of the bytes of the pixels at quality 95, of detailed photos (docs/scale.md)


class Resize(Stage, Cache):
    """Decode every image, resize its short side, write it as a JPEG or as pixels into an uncompressed tar.

    Input: ``data``, the listing. Samples keep their rows, keys, labels and splits; one that cannot be decoded
    keeps its row and has no image, where the source says ``on_error: skip``.

    Writes ``shard-<number>.tar``, of ``SHARD`` rows each, with a member ``<row>.jpg`` or ``<row>.npy``,
    (H, W, 3) uint8, for each image; ``places.npy`` and of pixels ``shapes.npy`` as in ``data.cache.Resized``;
    ``index.parquet``, the listing; ``facts.json``.

    Attributes: see ``Cache``.
        data: the images as they are.
    """

    RANKS: ClassVar[Literal["all", "one"]] = "one"
    SHARD: ClassVar[int] = 4096

    data: ImageSource

    def disk_bytes(self, **indexes: Index) -> int | None:
        """By the sizes of some images; ``None`` where they are no files."""
        index = indexes["data"]
        if index.table["size"].null_count:
            return None
        rows = np.linspace(0, len(index) - 1, min(SAMPLED, len(index))).astype(int).tolist()
        pixels = [count for row in rows if (count := self._pixel_count(index, row))]
        share = 1.0 if self.encoding == "raw" or (self.quality or 0) > 95 else JPEG_SHARE
        return int(len(index) * np.mean(pixels) * 3 * share) if pixels else None

    def _pixel_count(self, index: Index, row: int) -> int:
        """Of a resized image, by the header of the file; 0 where that cannot be read."""
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.data.encoded(index, row))) as image:
                scale = min(1.0, self.short_side / min(image.size))
                return round(image.width * scale) * round(image.height * scale)
        except (OSError, SyntaxError, ValueError):
            return 0

    def run(self, out: Path, **inputs: Path) -> None:
        """Write the shards that an earlier attempt left missing."""
        index = Index.read(inputs["data"])
        starts = range(0, len(index), self.SHARD)
        shards = [range(start, min(start + self.SHARD, len(index))) for start in starts]
        self._write(index, {out / shard_name(number): rows for number, rows in enumerate(shards)})
        places, shapes = np.zeros((len(index), 3), np.int64), np.zeros((len(index), 2), np.int64)
        for number in range(len(shards)):
            name = shard_name(number)
            with open(out / name, "rb") as tar:
                for file in tar_members(tar, str(out / name), name):
                    row, place = int(Path(file.key).stem), (file.offset or 0, file.size or 0)
                    if self.encoding == "raw":
                        place, shapes[row] = _pixels(tar, *place)
                    places[row] = (number, *place)
        index.write(out)
        np.save(out / Resized.PLACES, places)
        if self.encoding == "raw":
            np.save(out / Resized.SHAPES, shapes)
        skipped = [index.key(row) for row in np.flatnonzero(places[:, 2] == 0).tolist()]
        facts = {"images": len(index) - len(skipped), "MiB": round(int(places[:, 2].sum()) / 2**20, 1)}
        (out / "facts.json").write_text(json.dumps(facts | ({"skipped": skipped} if skipped else {})))

    def _write(self, index: Index, shards: dict[Path, range]) -> None:
        """The shards that are not there yet, each of these rows."""
        from cf_lightning.data.loader import Loader

        due = {path: rows for path, rows in shards.items() if not path.exists()}
        blocks = [rows[i : i + BLOCK] for rows in due.values() for i in range(0, len(rows), BLOCK)]
        workers = self.runtime.num_decoders()
        files = Loader(
            _Files(self, index),
            batch_sampler=blocks,
            collate_fn=list,
            num_workers=workers,
            worker_init_fn=Watch(workers, self.runtime.loader_timeout) if workers else None,
        )
        done = len(index) - sum(map(len, due.values()))
        bar = progress_bar(len(index), self.data.GIVES, done)
        stream = _counted(files, bar)
        for path, rows in due.items():
            _write_shard(path, rows, itertools.islice(stream, len(rows)), ENDINGS[self.encoding])
        bar.close()

    def _file(self, picture: "Picture") -> bytes:
        """The image as it is kept."""
        from PIL import Image
        from torchvision.transforms import InterpolationMode

        from cf_lightning.data.crops import Resize as ToShortSide

        small = min(picture.height, picture.width) <= self.short_side
        resize = ToShortSide(self.short_side, InterpolationMode.BICUBIC, self.reducing_gap)
        image = (picture.pixels() if small else resize(picture)).permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        if self.encoding == "raw":
            np.save(buffer, np.ascontiguousarray(image))
        else:
            Image.fromarray(image).save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue()


class _Files:
    """By row; an error is handed over, for a loader process would add its traceback to what it raises."""

    def __init__(self, resize: Resize, index: Index) -> None:
        self.resize, self.index = resize, index

    def __getitem__(self, row: int) -> bytes | DataError:
        source = self.resize.data
        reads(row)
        try:
            picture = source.sample(self.index, row)
            with source.naming(self.index, row):
                return self.resize._file(picture)
        except Undecodable as error:
            return b"" if source.on_error == "skip" else error
        except DataError as error:
            return error
        finally:
            reads(NONE)

    def name(self, row: int) -> str:
        return self.resize.data.where(self.index, row)


def _pixels(tar: BinaryIO, offset: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Offset and size of the pixels of a ``.npy`` that lies in a tar, and their height and width."""
    tar.seek(offset)
    np.lib.format.read_magic(tar)
    shape, _, _ = np.lib.format.read_array_header_1_0(tar)
    begin = tar.tell()
    return (begin, size - (begin - offset)), (shape[0], shape[1])


def _counted(blocks: Iterable[list[bytes | DataError]], bar: Any) -> Iterable[bytes | DataError]:
    """The images of all blocks, one after the other."""
    for block in blocks:
        yield from block
        bar.update(len(block))


def _write_shard(path: Path, rows: range, files: Iterable[bytes | DataError], ending: str) -> None:
    """Whole under its name, or not there."""
    draft = path.with_suffix(".new")
    with open(draft, "wb") as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for row, content in zip(rows, files, strict=True):
                if isinstance(content, DataError):
                    raise content
                if content:
                    member = tarfile.TarInfo(f"{row:09d}{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
