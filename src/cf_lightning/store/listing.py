"""``store ls``: what there is, what is in the making, and what was left behind."""

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cf_lightning.store.artifacts import Store
from cf_lightning.store.contents import Contents
from cf_lightning.store.leftovers import leftovers
from cf_lightning.store.manifest import MANIFEST
from cf_lightning.store.users import User


def show_list(store: Store, stage: str | None, users: list[User], console: Console) -> None:
    """A line for each artifact, of one stage or of all, and one for each leftover.

    Args:
        store: to look into.
        stage: the only one to show.
        users: the runs that count.
        console: to print on.
    """
    contents = Contents(store)
    runs = Counter(name for user in users for name in user.artifacts)
    table = plain_table("artifact", "what", "size >", "made in >", "made", "read by >", "runs >")
    shown = [name for name in contents.manifests if stage in (None, name.partition("/")[0])]
    for name in shown:
        manifest = contents.manifests[name]
        table.add_row(
            short(name),
            escape(manifest.get("title", "")),
            mib(contents.size(name)),
            f"{manifest.get('seconds', 0.0):,.1f} s",
            made(manifest, store.root / name),
            str(len(contents.readers(name)) or "-"),
            str(runs[name] or "-"),
        )
    console.print(table)
    whole = mib(sum(contents.size(name) for name in shown))
    console.print(f"{len(shown)} artifacts, {whole}", highlight=False)
    for name, problem in contents.damaged.items():
        if stage in (None, name.partition("/")[0]):
            console.print(f"[red]damaged:[/] {escape(problem)}", highlight=False, soft_wrap=True)
    left = [one for one in leftovers(store) if stage in (None, one.name.partition("/")[0])]
    if left:
        console.print()
        table = plain_table("left behind", "size >", "changed >", "state")
        for one in left:
            state = "in the making" if one.is_held(store) else "nobody holds it"
            table.add_row(one.name, mib(one.bytes), ago(one.changed), state)
        console.print(table)


def plain_table(*columns: str) -> Table:
    """A table without lines; what is given with `` >`` stands at the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        name, right = column.removesuffix(" >"), column.endswith(" >")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "what")
    return table


def short(name: str) -> str:
    """As much of a name as ``show`` needs."""
    stage, _, key = name.partition("/")
    return f"{stage}/{key[:10]}"


def mib(number: int) -> str:
    """Bytes, for people."""
    return f"{number / 2**20:,.1f} MiB"


def ago(when: float) -> str:
    """Seconds since the epoch as the days that have passed."""
    return f"{max(0.0, time.time() - when) / 86400:.1f} days ago"


def made(manifest: dict[str, Any], folder: Path) -> str:
    """When the artifact was made, in UTC; of format 1 when its manifest was written here."""
    told = (
        manifest.get("made") or datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, UTC).isoformat()
    )
    return str(told)[:16].replace("T", " ")
