"""The result table of a run on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from cf_lightning.results import Result, cell, gain, is_shown, notes, student_of, table_rows

ACROSS = 4  # contestants that have room beside each other


def results_table(results: Sequence[Result]) -> Table:
    """The results in percent, contestants across where they are few, else down; top-5 is only in the files.

    Where there is a teacher, a column says what the student (down: every other contestant) has more than
    the teacher, coloured and starred where the interval of the difference (``gain``) excludes 0.

    Args:
        results: of one run; contestants may lack some of the rows.
    """
    shown = [result for result in results if is_shown(result.metric)]
    contestants = list(dict.fromkeys(result.contestant for result in shown))
    student = student_of(contestants)
    table = Table(
        title=_title(shown),
        title_justify="left",
        caption=_caption(shown, student is not None),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for name in ("target", "protocol"):
        table.add_column(name, overflow="fold")
    fill = _across if len(contestants) <= ACROSS else _down
    fill(table, shown, contestants, student)
    return table


def _across(table: Table, shown: Sequence[Result], contestants: list[str], student: str | None) -> None:
    """One row for each target and protocol, one column for each contestant."""
    for name in [*contestants, *([f"{student} - teacher"] if student else []), "n test"]:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for (target, protocol), row in table_rows(shown).items():
        cells = [_percent(row.get(contestant)) for contestant in contestants]
        if student:
            cells.append(_gain(row.get("teacher"), row.get(student)))
        n_test = max(result.n_test for result in row.values())
        table.add_row(Text(target), Text(protocol), *cells, str(n_test))


def _down(table: Table, shown: Sequence[Result], contestants: list[str], student: str | None) -> None:
    """One row for each contestant, in a block for each target and protocol."""
    table.add_column("contestant", no_wrap=True)
    for name in ("percent", *(["- teacher"] if student else []), "n test"):
        table.add_column(name, justify="right", no_wrap=True)
    for (target, protocol), row in table_rows(shown).items():
        for number, contestant in enumerate(contestants):
            result = row.get(contestant)
            cells = [_percent(result)]
            if student:
                is_level = contestant in ("random", "teacher")
                cells.append(Text() if is_level else _gain(row.get("teacher"), result))
            what = (target, protocol) if number == 0 else ("", "")
            table.add_row(*map(Text, what), Text(contestant), *cells, str(result.n_test) if result else "")
        table.add_section()


def _percent(result: Result | None) -> Text:
    if result is None:
        return Text("-", style="dim")
    half = (result.ci_high - result.ci_low) / 2
    return Text.assemble(f"{100 * result.value:.1f}", (f" ±{100 * half:.1f}", "dim"))


def _gain(teacher: Result | None, student: Result | None) -> Text:
    if teacher is None or student is None:
        return Text("-", style="dim")
    difference, low, high = gain(teacher, student)
    shown = low > 0 or high < 0
    style = "dim" if not shown else "bold green" if difference > 0 else "bold red"
    return Text(f"{'* ' if shown else ''}{100 * difference:+.1f} ±{50 * (high - low):.1f}", style=style)


def _title(results: Sequence[Result]) -> Text:
    """The experiment, and k where something was clustered."""
    experiment = results[0].experiment if results else "no result"
    k = next((result.k for result in results if result.k is not None), None)
    return Text(experiment + ("" if k is None else f", k={cell(k)}"), style="bold")


def _caption(results: Sequence[Result], compared: bool) -> Text:
    """What the intervals are, and what else there is to know."""
    lines = [
        "percent ± half the 95 % interval over the test samples (Wilson; of mAP bootstrap), for one seed"
    ]
    if any(result.protocol == "low_shot" for result in results):
        lines.append("low_shot: over draws of training images (Student's t)")
    if compared:
        lines.append("* the difference's 95 % interval excludes 0 (paired bootstrap over the test samples)")
    return Text("\n".join([*lines, *notes(results)]), style="dim")
