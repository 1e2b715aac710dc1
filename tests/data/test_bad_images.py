"""Images and data sets as people have them: unusual ones are read, broken ones end in one message."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cf_lightning.data.decoding import decode_image
from cf_lightning.data.folder import FolderImages
from cf_lightning.data.image_source import ImageSource
from cf_lightning.data.manifest import Columns, ManifestImages
from cf_lightning.data.shards import ShardImages
from cf_lightning.data.torchvision import TorchvisionImages
from cf_lightning.errors import DataError

MAX_PIXELS = ImageSource.MAX_PIXELS
RGB = np.kron(np.random.default_rng(0).integers(0, 256, (6, 4, 3)), np.ones((8, 8, 1))).astype(
    np.uint8
)  # 48 x 32
GRAY = RGB[..., 0]


def encode(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(encoded: bytes) -> np.ndarray:
    image = decode_image(encoded, MAX_PIXELS)
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).numpy()


def close(left: np.ndarray, right: np.ndarray, tolerance: int) -> bool:
    return left.shape == right.shape and int(np.abs(left.astype(int) - right).max()) <= tolerance


def rotated(kind: str) -> bytes:
    """The picture stored lying on its side, with the note how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    lying = np.rot90(np.repeat(GRAY[..., None], 3, axis=2))
    return encode(
        np.ascontiguousarray(lying), kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {})
    )


def png16_rgb() -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write: each channel value is the byte twice."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, _ = RGB.shape
    lines = b"".join(b"\0" + np.repeat(row, 2).tobytes() for row in RGB)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


GRAY_RGB = np.repeat(GRAY[..., None], 3, axis=2)
TRANSPARENT = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
PALETTE = Image.fromarray(RGB).quantize(16)
UNUSUAL = {
    "gray_jpeg": (encode(GRAY, "JPEG", quality=100), GRAY_RGB, 3),
    "gray_png": (encode(GRAY, "PNG"), GRAY_RGB, 0),
    "gray_alpha": (encode(np.dstack([GRAY, 255 - GRAY]), "PNG"), GRAY_RGB, 0),
    "bilevel": (encode(Image.fromarray(GRAY > 128), "PNG"), np.where(GRAY_RGB > 128, 255, 0), 0),
    "alpha_png": (encode(TRANSPARENT, "PNG"), RGB, 0),
    "alpha_webp": (encode(TRANSPARENT, "WEBP", lossless=True, exact=True), RGB, 0),
    "palette_png": (encode(PALETTE, "PNG", transparency=0), np.asarray(PALETTE.convert("RGB")), 0),
    "gif": (encode(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB")), 0),
    "animation": (encode(PALETTE, "GIF", save_all=True, append_images=[Image.new("P", (32, 48))]),
                  np.asarray(PALETTE.convert("RGB")), 0),
    "cmyk_jpeg": (encode(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=100), RGB, 6),
    "png_16_gray": (encode(GRAY.astype(np.uint16) * 257, "PNG"), GRAY_RGB, 0),
    "png_16_rgb": (png16_rgb(), RGB, 0),
    "tiff_16": (encode(GRAY.astype(np.uint16) * 257, "TIFF"), GRAY_RGB, 0),
    "progressive": (encode(GRAY_RGB, "JPEG", quality=100, progressive=True), GRAY_RGB, 3),
    "bmp": (encode(RGB, "BMP"), RGB, 0),
    "tiff": (encode(RGB, "TIFF", compression="tiff_lzw"), RGB, 0),
    "ppm": (encode(RGB, "PPM"), RGB, 0),
    "rotated_jpeg": (rotated("JPEG"), GRAY_RGB, 3),
    "rotated_png": (rotated("PNG"), GRAY_RGB, 0),
    "rotated_webp": (rotated("WEBP"), GRAY_RGB, 60),  # lossy
    "rotated_tiff": (rotated("TIFF"), GRAY_RGB, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_images_become_upright_rgb(name: str) -> None:
    encoded, expected, tolerance = UNUSUAL[name]
    assert close(decode(encoded), expected, tolerance)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_no_beginning_of_a_file_is_an_image(kind: str) -> None:
    pixels: np.ndarray | Image.Image = PALETTE if kind == "GIF" else RGB
    for encoded in [
        encode(pixels, kind),
        *([encode(pixels, kind, progressive=True)] if kind == "JPEG" else []),
    ]:
        # a PNG's pixels are complete before its last chunk, a GIF's before its trailer
        for length in range(0, len(encoded) - {"PNG": 16, "GIF": 4, "JPEG": 0}.get(kind, 0), 7):
            try:
                image = decode(encoded[:length])
            except ValueError:
                continue
            # what is accepted is whole: TIFF ends with its tags, of which the last can be spared
            assert np.array_equal(image, decode(encoded)), f"{length} of {len(encoded)} bytes"


def test_the_messages_of_the_decoder() -> None:
    jpeg = encode(RGB, "JPEG")
    for encoded, message in [
        (b"", "the file is empty"),
        (jpeg[: len(jpeg) // 2], "incomplete or truncated"),
        (jpeg[:2], "no frame header"),
        (encode(RGB, "PNG")[:60], "truncated"),
        (b"<html>404 Not Found</html>", "not a JPEG, PNG, WEBP, GIF, BMP, TIFF or PPM image"),
        (encode(RGB[..., 0].astype(np.float32), "TIFF"), "32 bits a channel"),
    ]:
        with pytest.raises(ValueError, match=message):
            decode(encoded)


def test_damaged_files_never_end_the_process() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        encoded = encode(RGB, kind)
        errors = 0
        for _ in range(150):
            damaged = bytearray(encoded)
            for place in rng.integers(3, len(encoded), 4):
                damaged[place] ^= int(rng.integers(1, 256))
            try:
                decode(bytes(damaged))
            except ValueError:
                errors += 1
        assert kind == "TIFF" or errors > 10


def huge(kind: str) -> bytes:
    """A small file that says that it holds 182 million pixels; a PNG or BMP says three billion."""
    encoded = bytearray(encode(RGB, kind))
    if kind == "PNG":
        encoded[16:24] = struct.pack(">II", 60000, 50000)
        encoded[29:33] = struct.pack(">I", zlib.crc32(encoded[12:29]))
    elif kind == "BMP":
        encoded[18:26] = struct.pack("<ii", 60000, 50000)
    else:
        frame = encoded.index(b"\xff\xc0")
        encoded[frame + 5 : frame + 9] = struct.pack(">HH", 14000, 13000)
    return bytes(encoded)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_huge_images_are_refused_by_their_header(kind: str) -> None:
    with pytest.raises(ValueError, match=r"(182000000|3000000000) pixels"):
        decode(huge(kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_limit_is_of_pixels(kind: str) -> None:
    encoded = encode(RGB, kind)
    assert decode_image(encoded, 48 * 32).shape == (3, 48, 32)
    with pytest.raises(ValueError, match="32 x 48 = 1536 pixels; at most 1535"):
        decode_image(encoded, 48 * 32 - 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three good images in two classes."""
    for name in ("a/1.jpg", "a/2.jpg", "b/3.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(encode(RGB, "JPEG"))
    return tmp_path / "set"


def zip_of(root: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root))
    return path


def tar_of(root: Path, mode: str = "w:") -> Path:
    (root.parent / "shards").mkdir()
    path = root.parent / "shards" / "0.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(root, arcname=".")
    return path


@pytest.mark.parametrize("container", ["folder", "zip", "tar"])
def test_an_undecodable_image_is_named_with_the_remedy(root: Path, container: str) -> None:
    (root / "a" / "2.jpg").write_bytes(encode(RGB, "JPEG")[:300])
    source: ImageSource = FolderImages(root=str(root))
    if container == "zip":
        source = FolderImages(root=str(zip_of(root)))
    if container == "tar":
        source = ShardImages(root=str(tar_of(root).parent))
    index = source.index()
    with pytest.raises(
        DataError, match=r"a/2\.jpg cannot be decoded \(Image is .*truncated.*data\.on_error=skip"
    ):
        source.image(index, 1)
    for row in (0, 2):
        assert source.image(index, row).shape == (3, 48, 32)


def test_a_file_that_goes_away_is_named(root: Path) -> None:
    source = FolderImages(root=str(root))
    index = source.index()
    (root / "b" / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"b/3\.jpg cannot be decoded \(.*No such file"):
        source.image(index, 2)


def test_empty_files_are_found_before_anything_runs(root: Path) -> None:
    (root / "a" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/1\.jpg is empty .*data\.on_error=skip"):
        FolderImages(root=str(root)).index()
    skipping = FolderImages(root=str(root), on_error="skip")
    with pytest.raises(DataError, match=r"a/1\.jpg cannot be decoded \(the file is empty\)"):
        skipping.image(skipping.index(), 0)


def test_roots_that_are_not_what_they_should_be(root: Path, tmp_path: Path) -> None:
    def message(source: ImageSource) -> str:
        with pytest.raises(DataError) as caught:
            source.index()
        return str(caught.value)

    assert "root is not set" in message(FolderImages())
    assert f"root={tmp_path}/none: there is no such file" in message(FolderImages(root=f"{tmp_path}/none"))
    (tmp_path / "empty").mkdir()
    assert "no images below it (.bmp .gif .jpeg .jpg" in message(FolderImages(root=f"{tmp_path}/empty"))
    assert "no *.tar file below it" in message(ShardImages(root=str(root)))
    (tmp_path / "text.zip").write_text("not a zip")
    assert "not a folder and not a complete zip file" in message(FolderImages(root=f"{tmp_path}/text.zip"))
    packed = zip_of(root)
    packed.write_bytes(packed.read_bytes()[:-400])
    assert "not a folder and not a complete zip file" in message(FolderImages(root=str(packed)))
    assert "a/1.jpg is compressed or encrypted" in message(
        FolderImages(root=str(zip_of(root, zipfile.ZIP_DEFLATED)))
    )
    assert "zip -0 -r" in message(FolderImages(root=str(zip_of(root, zipfile.ZIP_DEFLATED))))
    packed = zip_of(root)
    packed.write_bytes(packed.read_bytes().replace(b"PK\x03\x04", b"PK\x03\x05", 1))
    assert "a/1.jpg is not where the zip's directory says" in message(FolderImages(root=str(packed)))
    (root / "train").mkdir()
    (root / "train" / "4.jpg").write_bytes(encode(RGB, "JPEG"))
    assert "a/1.jpg lies beside the folders of splits" in message(FolderImages(root=str(root)))


def test_links_that_lead_nowhere(root: Path) -> None:
    (root / "a" / "0.jpg").symlink_to(root / "gone.jpg")
    with pytest.raises(DataError, match=r"a/0\.jpg is a link to a file that is not there"):
        FolderImages(root=str(root)).index()


def test_names_that_are_not_utf8(root: Path) -> None:
    (root / "a" / b"\xe9.jpg".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    with pytest.raises(DataError, match="name is not UTF-8; rename it"):
        FolderImages(root=str(root)).index()


def test_a_zip_that_names_a_file_twice(root: Path) -> None:
    path = zip_of(root)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a/2.jpg", b"another")
    with pytest.raises(DataError, match=r"a/2\.jpg is listed 2 times"):
        FolderImages(root=str(path)).index()


def manifest(root: Path, text: str, columns: Columns | None = None) -> str:
    (root / "m.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        ManifestImages(root=str(root), manifest="m.csv", columns=columns or Columns()).index()
    return str(caught.value)


def test_what_is_wrong_with_a_manifest(root: Path) -> None:
    found = manifest(root, "file,label\na/1.jpg,x")
    assert "manifest=m.csv: no column path; it has file, label" in found
    assert "data.columns.path=NAME" in found
    found = manifest(root, "path,tags\na/1.jpg,x", Columns(tags="hashtags"))
    assert "no column hashtags; it has path, tags" in found
    assert "data.columns.tags=NAME" in found
    assert "more than one column label" in manifest(root, "path,label,label\na/1.jpg,x,y")
    found = manifest(root, "path\na/1.jpg\na/9.jpg\nb/8.jpg")
    assert "'a/9.jpg' and 1 more of 3 files are not there; paths are relative to root=" in found
    assert "is not there" not in found
    found = manifest(root, f"path\n{root}/a/1.jpg")
    assert f"row 1 below the header has path='{root}/a/1.jpg'; paths are relative to root=" in found
    assert "a/1.jpg is listed 2 times" in manifest(root, "path\na/1.jpg\nb/3.jpg\n./a/1.jpg")
    found = manifest(root, "path,split\na/1.jpg,train\na/2.jpg,dev")
    assert "a/2.jpg has split=dev, as one of 1 rows; a split is train, val" in found
    assert "no sample" in manifest(root, "path,split\n")
    assert "cannot be read" in manifest(root, "")
    assert "Expected 2 columns, got 1" in manifest(root, "path,label\na/1.jpg\n")
    assert "UTF8" in manifest(root, "path,label\na/1.jpg,caf\xe9")


def test_manifests_that_cannot_be_found(root: Path) -> None:
    packed = zip_of(root)
    for place in (root, packed):
        with pytest.raises(DataError, match=r"manifest=none\.csv: there is no such file below root="):
            ManifestImages(root=str(place), manifest="none.csv").index()
    with pytest.raises(DataError, match=r"manifest=list\.xlsx: .* ends in \.csv or \.parquet"):
        ManifestImages(root=str(root), manifest="list.xlsx").index()
    (root / "m.parquet").write_text("no")
    with pytest.raises(DataError, match=r"manifest=m\.parquet: it cannot be read"):
        ManifestImages(root=str(root), manifest="m.parquet").index()


def test_a_manifest_that_names_what_the_zip_has_not(root: Path) -> None:
    pq.write_table(pa.table({"path": ["a/1.jpg", "b/9.jpg"]}), root / "m.parquet")
    with pytest.raises(DataError, match=r"'b/9\.jpg' and 0 more of 2 files are not there"):
        ManifestImages(root=str(zip_of(root)), manifest="m.parquet").index()


def test_shards_that_are_cut_short_or_compressed(root: Path) -> None:
    path = tar_of(root)
    whole = path.read_bytes()
    assert len(ShardImages(root=str(path.parent)).index()) == 3
    for length in range(0, len(whole.rstrip(b"\0")), 256):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"0\.tar: not a complete, uncompressed tar"):
            ShardImages(root=str(path.parent)).index()
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(DataError, match="not a complete, uncompressed tar"):
        ShardImages(root=str(tar_of(root, "w:gz").parent)).index()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.jpg", "1.png"], r"1\.jpg and 1\.png are one sample"),
        (["1.jpg", "1.cls", "1.cls"], r"1\.cls is there twice"),
        (["1.JPG", "1.JPG"], r"1\.JPG is there twice"),
        (["1.jpg", "1.json"], r"1\.json cannot be read"),
        (["1.txt"], "no sample found"),
    ],
)
def test_samples_of_shards_that_contradict_themselves(names: list[str], message: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"[1]"))
    with pytest.raises(DataError, match=message):
        ShardImages(root=str(tmp_path)).index()


def test_shards_with_links(root: Path) -> None:
    (root / "a" / "4.jpg").hardlink_to(root / "a" / "1.jpg")
    with pytest.raises(
        DataError, match="is a link, a device or sparse; pack anew with: tar --dereference --hard-deref"
    ):
        ShardImages(root=str(tar_of(root).parent)).index()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CIFAR1O", "no such data set; did you mean CIFAR10"),
        ("CIFAR10", r"name=CIFAR10: .*data\.download=true"),
        ("Food101", r"name=Food101: .*data\.download=true"),
        ("EMNIST", "no split named train"),
    ],
)
def test_torchvision_sets_that_are_not_there(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        TorchvisionImages(name=name, root=str(tmp_path)).index()
