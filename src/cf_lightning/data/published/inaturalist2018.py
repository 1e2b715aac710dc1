"""iNaturalist 2018."""

from collections.abc import Iterator

from pydantic import BaseModel, ValidationError

from cf_lightning.data.published import Listed, PublishedImages
from cf_lightning.errors import DataError


class _Image(BaseModel):
    id: int
    file_name: str


class _Category(BaseModel):
    id: int


class _Annotation(BaseModel):
    image_id: int
    category_id: int


class _Annotations(BaseModel):
    """What is read of the format of COCO."""

    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


class INaturalist2018(PublishedImages):
    """iNaturalist 2018 (Van Horn et al. 2018): its archives, unpacked side by side.

    ``{train,val}2018.json`` in the format of COCO, and the images below ``train_val2018/``. The names of the
    species were held back for the challenge: a class is called by its number, ``0000`` to ``8141``. The
    labels of test are not published: it is left out.
    """

    def listed(self) -> Iterator[Listed]:
        """The images of train and val."""
        for split in ("train", "val"):
            name = f"{split}2018.json"
            content = self._read(name)
            known = {category.id for category in content.categories}
            classes = {one.image_id: one.category_id for one in content.annotations}
            for image in content.images:
                number = classes.get(image.id)
                if number not in known:
                    problem = "no category" if number is None else f"category {number}"
                    raise DataError(
                        f"root={self.root}: {name}: {image.file_name} has {problem}, and each image has "
                        f"one of the {len(known)} categories that are listed there"
                    )
                yield Listed(self.file(image.file_name), split, [f"{number:04d}"])

    def _read(self, name: str) -> _Annotations:
        try:
            return _Annotations.model_validate_json((self.folder() / name).read_bytes())
        except OSError as error:
            raise DataError(f"root={self.root}: {name} cannot be read ({error.strerror})") from None
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise DataError(f"root={self.root}: {name}: {place or 'the file'}: {problem['msg']}") from None
