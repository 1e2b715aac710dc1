"""What a person sees on the terminal: a line for each stage, the plan, the result."""

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cf_lightning import progress
from cf_lightning.errors import printable
from cf_lightning.estimate import told

if TYPE_CHECKING:
    from cf_lightning.plan import Plan, Step

WIDE = 120  # columns from which on a stage's line has room for its artifact's place


class Console:
    """Lines and tables on stdout; 160 columns wide when nobody is looking."""

    def __init__(self) -> None:
        is_sized = sys.stdout.isatty() or "COLUMNS" in os.environ
        self.out = RichConsole(width=None if is_sized else 160, highlight=False)

    def note(self, text: str) -> None:
        """A line; a longer text breaks between words, so that a path stays whole."""
        progress.clear_line()
        lines = textwrap.fill(text, self.out.width, break_long_words=False, break_on_hyphens=False)
        self.out.print(escape(printable(lines)), style="dim", soft_wrap=True)
        progress.say_again()

    @contextmanager
    def running(self, step: "Step") -> Iterator[None]:
        """Where bars are shown, say what is running before the first one is; take all of it away again."""
        if step.index is not None or not step.built().runtime.shows_progress():
            yield
        else:
            with progress.of(f"{step.stage}: {step.title}"):
                yield

    def step(self, step: "Step", store: Path) -> None:
        """The line of a finished stage: cached or ran, seconds, where, and what it says of itself."""
        state = "[green]cached[/]" if step.cached else "[bold]ran[/]   "
        seconds = f"{step.seconds:8.1f} s"
        place = f"  [dim]{store.name}/{step.stage}/{step.key[:8]}[/]" if self.out.width >= WIDE else ""
        line = Text.from_markup(f"{step.stage:15} {state} {seconds}{place}  {escape(step.title)}")
        for name, value in (step.manifest or {}).get("facts", {}).items():
            fact = f"  {name}={_short(value)}"
            if len(line) + len(fact) > self.out.width:  # half a number would be another one
                break
            line.append(fact, "cyan")
        self.out.print(line, no_wrap=True, overflow="ellipsis")

    def plan(self, plan: "Plan") -> None:
        """A table of all stages: cached or to run, and what each needs on disk."""
        table = Table(title="plan", title_justify="left", box=None, header_style="bold")
        for name in ("stage", "what", "state", "disk", "artifact"):
            table.add_column(name, justify="right" if name == "disk" else "left", no_wrap=True)
        for step in plan.steps:
            size = plan.disk_bytes(step)
            table.add_row(
                step.stage,
                escape(step.title),
                "[green]cached[/]" if step.cached else "[yellow]will run[/]",
                "?" if size is None else f"{size / 2**20:,.1f} MiB",
                str(plan.folder(step).relative_to(plan.store.root)),
            )
        self.out.print(table)
        self.note(f"store: {plan.store.root}; {len(plan.missing())} of {len(plan.steps)} stages will run")
        if operations := plan.operations():
            self.note(told(operations))

    def table(self, table: Table) -> None:
        """Any table, with air around it."""
        self.out.print()
        self.out.print(table)

    def summary(self, plan: "Plan", seconds: float) -> None:
        """What a finished run did, stage by stage, in as many lines as there are kinds of stages.

        Args:
            plan: every step of it is done.
            seconds: that the whole run took; of them a stage's share is.
        """
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("stage", "ran", "cached", "seconds", "share", "saved by the cache"):
            table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
        for stage in dict.fromkeys(step.stage for step in plan.steps):
            steps = [step for step in plan.steps if step.stage == stage]
            table.add_row(stage, *_summed(steps, sum(s.seconds for s in steps if not s.cached), seconds))
        table.add_row("whole run", *_summed(plan.steps, seconds, seconds), style="bold")
        self.table(table)


def _summed(steps: "list[Step]", spent: float, whole: float) -> list[str]:
    """How many ran and were cached, the seconds spent, their share of the whole, and the seconds saved."""
    cached = [step for step in steps if step.cached]
    saved = sum(step.seconds for step in cached)
    counts = [str(count or "-") for count in (len(steps) - len(cached), len(cached))]
    share = f"{spent / whole:.0%}" if whole else "-"
    return [*counts, f"{spent:,.1f} s", share, f"{saved:,.1f} s" if cached else "-"]


def _short(value: Any) -> str:
    """A number with four digits; of a list, how long it is."""
    if isinstance(value, list):
        return str(len(value))
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
