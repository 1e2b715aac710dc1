"""All that is in a store: the manifests, and what was made of what."""

from typing import Any

from cf_lightning.errors import StoreError
from cf_lightning.store.artifacts import Store


class Contents:
    """The finished artifacts, by their names ``<stage>/<key>``, read once.

    Args:
        store: to read.

    Attributes:
        manifests: of those that can be read.
        damaged: the others, each with what is wrong.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.manifests: dict[str, dict[str, Any]] = {}
        self.damaged: dict[str, str] = {}
        for stage, key in store.finished():
            try:
                manifest = store.manifest(stage, key)
            except StoreError as error:
                self.damaged[f"{stage}/{key}"] = str(error)
            else:
                if manifest is not None:  # else it was removed just now
                    self.manifests[f"{stage}/{key}"] = manifest
        self._named: dict[str, list[str]] = {}
        for name in (*self.manifests, *self.damaged):
            self._named.setdefault(name.partition("/")[2], []).append(name)
        self._readers: dict[str, list[str]] = {}
        for name in self.manifests:
            for used in self.inputs(name).values():
                for one in used:
                    self._readers.setdefault(one, []).append(name)

    def inputs(self, name: str) -> dict[str, list[str]]:
        """What the artifact was made of, by the inputs' names.

        A manifest of format 1 has keys alone: all artifacts of a key are given, for stages may share one.
        """
        inputs: dict[str, str] = self.manifests[name].get("inputs", {})
        return {
            called: [used] if "/" in used else self._named.get(used, [f"?/{used}"])
            for called, used in inputs.items()
        }

    def readers(self, name: str) -> list[str]:
        """The artifacts that were made of it."""
        return self._readers.get(name, [])

    def chain(self, names: list[str]) -> tuple[list[str], list[str]]:
        """The artifacts and everything that they were made of, inputs first; and what of it is not there.

        Raises:
            StoreError: a manifest is damaged.
        """
        ordered: dict[str, None] = {}
        missing: dict[str, None] = {}

        def add(name: str) -> None:
            if name in ordered or name in missing:
                return
            if name in self.damaged:
                raise StoreError(self.damaged[name])
            if name not in self.manifests:
                missing[name] = None
                return
            for used in self.inputs(name).values():
                for one in used:
                    add(one)
            ordered[name] = None

        for name in names:
            add(name)
        return list(ordered), list(missing)

    def find(self, text: str) -> str:
        """The artifact that ``STAGE/KEY`` or ``KEY`` means; the beginning of a key suffices.

        Raises:
            StoreError: there is none, or there are several.
        """
        every = [*self.manifests, *self.damaged]
        if text in every:
            return text
        stage, _, start = text.rpartition("/")
        found = [name for name in every if name.startswith(f"{stage}/{start}" if stage else "")]
        found = [name for name in found if name.partition("/")[2].startswith(start)]
        if not found:
            raise StoreError(
                f"{text}: there is no such artifact in {self.store.root}; ls shows what there is"
            )
        if len(found) > 1:
            shown = ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
            raise StoreError(f"{text} may be any of {shown}; give more of the key")
        return found[0]

    def size(self, name: str) -> int:
        """Bytes of the artifact's files."""
        return sum(file["bytes"] for file in self.manifests[name]["files"].values())
