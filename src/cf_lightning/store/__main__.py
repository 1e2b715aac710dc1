"""``python -m cf_lightning.store``: what is in a store, whether it is whole, what may go, how it moves."""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from cf_lightning.errors import StoreError, UserError
from cf_lightning.runtime import Runtime
from cf_lightning.store.artifacts import Store
from cf_lightning.store.cleaning import clean
from cf_lightning.store.contents import Contents
from cf_lightning.store.exporting import export, names_of_run, names_with_inputs
from cf_lightning.store.importing import import_
from cf_lightning.store.listing import show_list
from cf_lightning.store.showing import show_artifact
from cf_lightning.store.users import User, users
from cf_lightning.store.verifying import show_damage


def main() -> None:
    """Parse the command line; a user's error is one message on stderr and exit code 1."""
    given = _parser().parse_args()
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
    try:
        act(given, Store(given.store), Console(width=wide))
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def act(given: argparse.Namespace, store: Store, console: Console) -> None:
    """Do what was asked for.

    Raises:
        UserError: it cannot be done, or something is damaged.
    """
    if given.command != "import" and not store.root.is_dir():
        raise StoreError(f"--store {store.root}: there is no such folder")
    match given.command:
        case "ls":
            show_list(store, given.stage, _users(store, given.runs, console), console)
        case "show":
            show_artifact(store, given.artifact, _users(store, given.runs, console), console)
        case "verify":
            show_damage(store, given.artifacts)
        case "gc":
            clean(store, given.runs, given.keep_days, console, given.dry_run, given.yes)
        case "export":
            contents = Contents(store)
            if bool(given.run) == bool(given.artifacts):
                raise StoreError("export takes either artifacts, as STAGE/KEY, or --run FOLDER")
            missing: list[str] = []
            if given.run:
                names = names_of_run(contents, given.run)
            else:
                names, missing = names_with_inputs(contents, given.artifacts)
            export(store, names, given.file)
            for name in missing:
                print(f"left out, for it is no longer there: {name}")
            print(f"wrote {given.file}: {len(names)} artifacts")
        case "import":
            new, old = import_(store, given.file, print)
            print(f"{len(new)} artifacts are new in {store.root}, {len(old)} were there")


def _users(store: Store, folders: list[Path], console: Console) -> list[User]:
    found, problems = users(store, folders)
    for problem in problems:
        console.print(problem, markup=False, highlight=False)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cf_lightning.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, told: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=told, description=told)
        one.add_argument(
            "--store", default=Runtime().store, metavar="FOLDER", help="runtime.store (%(default)s)"
        )
        return one

    def runs(one: argparse.ArgumentParser) -> None:
        told = "look for runs in these, too, beside those that the store knows (%(default)s)"
        one.add_argument("--runs", nargs="+", type=Path, default=[Path("runs")], metavar="FOLDER", help=told)

    ls = command("ls", "what there is")
    ls.add_argument("stage", nargs="?", metavar="STAGE", help="of this stage alone")
    runs(ls)

    show = command("show", "one artifact: what made it, of what, what needs it")
    show.add_argument("artifact", metavar="STAGE/KEY", help="the beginning of a key suffices")
    runs(show)

    verify = command("verify", "compare every byte with the manifests; exit code 1 if anything is wrong")
    verify.add_argument("artifacts", nargs="*", metavar="STAGE/KEY", help="these alone")

    gc = command("gc", "remove what no run needs any more, after a question")
    runs(gc)
    told = (
        "keep what was changed in so many days, and all that runs need that have failed in them (%(default)s)"
    )
    gc.add_argument("--keep-days", type=float, default=7.0, metavar="N", help=told)
    gc.add_argument("--dry-run", action="store_true", help="only show it")
    gc.add_argument("--yes", action="store_true", help="do not ask")

    out = command("export", "write artifacts and all that they were made of into a tar file")
    out.add_argument("file", type=Path, metavar="FILE.tar")
    out.add_argument("artifacts", nargs="*", metavar="STAGE/KEY", help="the beginning of a key suffices")
    out.add_argument("--run", type=Path, metavar="FOLDER", help="exactly what this run needs")

    into = command("import", "take in the artifacts of a tar file that export wrote")
    into.add_argument("file", type=Path, metavar="FILE.tar")
    return parser


if __name__ == "__main__":
    main()
