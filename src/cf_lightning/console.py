"""What a person sees on the terminal: a line for each stage, the plan, the result."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from cf_lightning.plan import Plan, Step


class Console:
    """Lines and tables on stdout; as wide as they need to be when nobody is looking."""

    def __init__(self) -> None:
        self.out = RichConsole(width=None if sys.stdout.isatty() else 160, highlight=False)

    def note(self, text: str) -> None:
        """One line."""
        self.out.print(escape(text), style="dim", soft_wrap=True)

    def step(self, step: "Step", store: Path) -> None:
        """The line of a finished stage: cached or ran, seconds, where, and what it says of itself."""
        state = "[green]cached[/]" if step.cached else "[bold]ran[/]   "
        seconds = f"{step.seconds:8.1f} s"
        facts = (step.manifest or {}).get("facts", {})
        told = "  ".join(f"{name}={_short(value)}" for name, value in facts.items())
        place = f"{store.name}/{step.stage}/{step.key[:8]}"
        made = f"{step.stage:15} {state} {seconds}  [dim]{place}[/]"
        self.out.print(f"{made}  {escape(step.title)}  [cyan]{escape(told)}[/]", soft_wrap=True)

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

    def table(self, table: Table) -> None:
        """Any table, with air around it."""
        self.out.print()
        self.out.print(table)


def _short(value: Any) -> str:
    """A number with four digits; of a list, how long it is."""
    if isinstance(value, list):
        return str(len(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
