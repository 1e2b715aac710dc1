"""PASCAL VOC 2007."""

from collections import defaultdict
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError, TreeBuilder, XMLParser, fromstring

from cf_lightning.data.published import Listed, PublishedImages
from cf_lightning.errors import DataError

HOME = "VOCdevkit/VOC2007"
LISTS = {"train": "trainval", "test": "test"}


class VOC07(PublishedImages):
    """PASCAL VOC 2007 (Everingham et al. 2010): the archives of trainval and test, unpacked into one folder.

    ``VOCdevkit/VOC2007/`` with ``ImageSets/Main/{trainval,test}.txt``, ``Annotations/*.xml`` and
    ``JPEGImages/*.jpg``. An image has the classes of the objects in it; a class of which all objects in an
    image are difficult is difficult there, as in the devkit's lists of each class.
    """

    def listed(self) -> Iterator[Listed]:
        """The images of trainval, as train, and of test."""
        for split, name in LISTS.items():
            for row in self.annotations(f"{HOME}/ImageSets/Main/{name}.txt", r"\d{6}", "000005"):
                labels, difficult = self._classes(f"{HOME}/Annotations/{row[0]}.xml")
                yield Listed(self.file(f"{HOME}/JPEGImages/{row[0]}.jpg"), split, labels, difficult)

    def _classes(self, name: str) -> tuple[list[str], list[str]]:
        """Those that count in an image, and those of which every object is difficult; both sorted."""
        objects: dict[str, set[str]] = defaultdict(set)
        try:
            root = fromstring((self.folder() / name).read_bytes(), XMLParser(target=_WithoutEntities()))
            for one in root.findall("object"):
                if not (label := one.findtext("name")):
                    raise ValueError("an object has no name")
                objects[label].add(one.findtext("difficult", "0"))
        except OSError as error:
            raise DataError(f"root={self.root}: {name} cannot be read ({error.strerror})") from None
        except (ParseError, ValueError) as error:
            raise DataError(f"root={self.root}: {name} is not an annotation of VOC ({error})") from None
        difficult = sorted(label for label, marks in objects.items() if marks == {"1"})
        return sorted(objects.keys() - set(difficult)), difficult


class _WithoutEntities(TreeBuilder):
    """Refuses what entities are declared in, so that a small file cannot grow to gigabytes of text."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"it declares a document type, {name}")
