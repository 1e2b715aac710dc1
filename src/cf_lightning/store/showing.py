"""``store show``: one artifact, what made it, of what, and what needs it."""

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from cf_lightning.errors import StoreError
from cf_lightning.store.artifacts import Store
from cf_lightning.store.contents import Contents
from cf_lightning.store.listing import made, plain_table, short
from cf_lightning.store.users import User

LONG = 200  # letters of a fact
TOLD = ("device", "precision", "commit")


def show_artifact(store: Store, text: str, users: list[User], console: Console) -> None:
    """All that is known of an artifact.

    Args:
        store: where it lies.
        text: its name, or as much of it as is unique.
        users: the runs that count.
        console: to print on.

    Raises:
        StoreError: there is none, there are several, or it is damaged.
    """
    contents = Contents(store)
    name = contents.find(text)
    if name in contents.damaged:
        raise StoreError(contents.damaged[name])
    manifest = contents.manifests[name]
    console.print(f"[bold]{name}[/]  {escape(manifest.get('title', ''))}", highlight=False)
    console.print(_facts(manifest, made(manifest, store.root / name)))

    _head(console, "configuration")
    console.print(escape(json.dumps(manifest.get("config", {}), indent=2)), highlight=False)

    _head(console, "made of")
    console.print(_tree(contents, name))

    _head(console, "read by")
    readers = [_line(contents, reader) for reader in contents.readers(name)]
    console.print("\n".join(readers) or "nothing", highlight=False)
    _head(console, "runs that need it")
    runs = [f"{escape(str(u.folder))}  [dim]{u.run.status}[/]" for u in users if name in u.artifacts]
    console.print("\n".join(runs) or "none", highlight=False)

    _head(console, f"files in {store.root / name}")
    table = plain_table("file", "bytes >")
    for file, known in manifest["files"].items():
        table.add_row(escape(file), f"{known['bytes']:,}")
    console.print(table)


def _facts(manifest: dict[str, Any], when: str) -> Any:
    told = {
        "made": f"{when} UTC in {manifest.get('seconds', 0.0):,.1f} s",
        **{name: manifest[name] for name in TOLD if manifest.get(name)},
        "versions": ", ".join(f"{name} {one}" for name, one in manifest.get("versions", {}).items()),
        **manifest.get("facts", {}),
    }
    table = plain_table("", "what")
    for name, value in told.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if text:
            table.add_row(name, escape(text if len(text) <= LONG else f"{text[:LONG]} ..."))
    table.show_header = False
    return table


def _tree(contents: Contents, name: str) -> Tree:
    """Its inputs below it, and theirs below them; what has been shown is not unfolded again."""
    root, shown = Tree(_line(contents, name)), set()

    def grow(name: str, tree: Tree) -> None:
        for called, used in contents.inputs(name).items():
            for one in used:
                again = one in shown
                shown.add(one)
                branch = tree.add(f"{called}: {_line(contents, one)}{' (as above)' if again else ''}")
                if not again and one in contents.manifests:
                    grow(one, branch)

    grow(name, root)
    return root


def _line(contents: Contents, name: str) -> str:
    if name in contents.manifests:
        return f"{short(name)}  {escape(contents.manifests[name].get('title', ''))}"
    return f"{short(name)}  [red]{'damaged' if name in contents.damaged else 'no longer there'}[/]"


def _head(console: Console, text: str) -> None:
    console.print(f"\n[bold]{escape(text)}[/]", highlight=False)
