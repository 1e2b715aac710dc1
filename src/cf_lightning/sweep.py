"""Several runs beside each other: which are finished, how they differ, and the points of their curves."""

import math
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from cf_lightning.errors import DataError
from cf_lightning.results import Panel, Result, gain, panel_of, read_results
from cf_lightning.runs import FILE, Run

COST = ("space", "cluster", "clusterfit")  # the stages that another k has to run again
BASELINES = ("random", "teacher")  # what the others are measured against
MACHINE = ("runtime.", "logger")  # overrides that change no number


@dataclass(frozen=True)
class Job:
    """One run among others.

    Attributes:
        name: its number in a multirun; else the path that tells it from the others.
        folder: of the run.
        run: its record; null where there is none that can be read.
        results: its rows of the table; none unless the run is finished and whole.
        problem: why it is left out: ``not finished``, ``failed: ...``, ``foreign: ...``, ``corrupt: ...``.
        overrides: those that not all finished runs share, in the order of the command line.
    """

    name: str
    folder: Path
    run: Run | None = None
    results: list[Result] = field(default_factory=list)
    problem: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """It has ended and has no results."""
        return (self.problem or "").startswith(("failed", "corrupt"))

    @property
    def variant(self) -> str:
        """What is special about it beside k and seeds."""
        return " ".join(one.lstrip("+") for one in self.overrides if not _unnamed(_key(one)))

    @property
    def cost(self) -> float | None:
        """Seconds of what its k needs beyond what all k share, when it was made; null without a record."""
        if self.run is None:
            return None
        return round(math.fsum(step.seconds or 0 for step in self.run.steps if step.stage in COST), 2)


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        mean: over seeds.
        low: of Student's t over the seeds; of one seed the interval over the test images.
        high: likewise.
        std: over seeds; null for one.
        seeds: how many different artifacts were measured.
    """

    mean: float
    low: float
    high: float
    std: float | None
    seeds: int


@dataclass(frozen=True)
class Point:
    """One contestant with one k in one panel, over its seeds.

    Attributes:
        variant: see ``Job``.
        contestant: see ``results.Result``.
        panel: what was measured.
        k: ascending; empty for a contestant that knows no clusters.
        value: a fraction.
        gain: the difference to the same jobs' teacher; null for the baselines and without a teacher.
        cost: mean seconds; see ``Job``; null for a contestant that knows no clusters.
    """

    variant: str
    contestant: str
    panel: Panel
    k: tuple[int, ...]
    value: Estimate
    gain: Estimate | None
    cost: float | None


def job_folders(folder: Path) -> list[Path]:
    """The jobs of a multirun in order: sub-folders that are a number or hold a ``run.json``.

    Raises:
        DataError: there is no such folder.
    """
    try:
        inside = [path for path in folder.iterdir() if path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{folder}: there is no such folder") from None
    jobs = [path for path in inside if path.name.isdecimal() or (path / FILE).exists()]
    return sorted(jobs, key=lambda path: (not path.name.isdecimal(), path.name.zfill(12)))


def read_jobs(folders: Iterable[Path]) -> list[Job]:
    """The runs of these folders; what cannot be read is a job with a problem, never an error."""
    places = list(dict.fromkeys(folder.resolve() for folder in folders))
    if not places:
        return []
    base = os.path.commonpath([place.parent for place in places])
    runs = [_read(place) for place in places]
    known = [run.overrides for run, _, problem in runs if run and not problem] or [
        run.overrides for run, _, _ in runs if run
    ]
    shared = set.intersection(*map(set, known)) if known else set()
    return [
        Job(
            name=os.path.relpath(place, base),
            folder=place,
            run=run,
            results=results,
            problem=problem,
            overrides=tuple(
                one
                for one in dict.fromkeys(run.overrides if run else [])
                if one not in shared and not _key(one).startswith(MACHINE)
            ),
        )
        for place, (run, results, problem) in zip(places, runs, strict=True)
    ]


def _read(folder: Path) -> tuple[Run | None, list[Result], str | None]:
    """A run's record, results and problem."""
    if not (folder / FILE).exists():
        begun = (folder / ".hydra").exists()
        return None, [], f"not finished: no {FILE} yet" if begun else f"foreign: no {FILE}"
    try:
        run = Run.read(folder)
    except (DataError, OSError) as error:
        return None, [], f"corrupt {FILE}: {error}"
    if run.status == "running":
        return run, [], "not finished"
    if run.status == "failed":
        return run, [], f"failed: {run.error}"
    try:
        return run, read_results(folder), None
    except (DataError, OSError) as error:
        return run, [], f"corrupt results.json: {error}"


def points(jobs: Sequence[Job]) -> list[Point]:
    """The curves' points, panel by panel, each contestant's k ascending.

    What several jobs share, such as a teacher, is one artifact and counts once.
    """
    groups: dict[tuple[Panel, str, str, tuple[int, ...]], dict[str, tuple[Job, Result]]] = {}
    for job in jobs:
        for result in job.results:
            group = (panel_of(result), job.variant, result.contestant, _k(result))
            groups.setdefault(group, {}).setdefault(result.transfer_key or job.name, (job, result))
    found = []
    for (panel, variant, contestant, k), members in groups.items():
        pairs = list(members.values())
        value = estimate([one.value for _, one in pairs], (pairs[0][1].ci_low, pairs[0][1].ci_high))
        cost = fmean(job.cost or 0 for job, _ in pairs) if k else None
        found.append(Point(variant, contestant, panel, k, value, _gain(pairs), cost))
    panels, names = ([*dict.fromkeys(group[place] for group in groups)] for place in (0, 2))
    return sorted(
        found, key=lambda point: (panels.index(point.panel), names.index(point.contestant), point.k)
    )


def estimate(values: Sequence[float], alone: tuple[float, float]) -> Estimate:
    """Mean and interval of one number for each seed; ``alone`` is the interval of a single one."""
    from scipy.special import stdtrit

    if len(values) == 1:
        return Estimate(values[0], *alone, std=None, seeds=1)
    mean, std = fmean(values), stdev(values)
    half = float(stdtrit(len(values) - 1, 0.975)) * std / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, std, len(values))


def _gain(pairs: Sequence[tuple[Job, Result]]) -> Estimate | None:
    """What a contestant has more than its own job's teacher, seed by seed."""
    compared = [
        (teacher, result)
        for job, result in pairs
        for teacher in job.results
        if teacher.contestant == "teacher" and panel_of(teacher) == panel_of(result)
    ]
    if not compared or pairs[0][1].contestant in BASELINES:
        return None
    return estimate([after.value - before.value for before, after in compared], gain(*compared[0])[1:])


def commands(jobs: Sequence[Job]) -> list[str]:
    """The command lines that repeat the runs: one multirun where they are a grid, else one for each."""
    program = ("python", "-m", "cf_lightning")
    lines = list(dict.fromkeys(tuple(job.run.overrides) for job in jobs if job.run))
    choices = [list(dict.fromkeys(column)) for column in zip(*lines, strict=False)]
    one_key = all(len({_key(one) for one in choice}) == 1 for choice in choices)
    one_length = len({len(line) for line in lines}) == 1
    if len(lines) < 2 or not (one_key and one_length and math.prod(map(len, choices)) == len(lines)):
        return [shlex.join([*program, *line]) for line in lines]
    joined = [",".join([first, *(one.partition("=")[2] for one in rest)]) for first, *rest in choices]
    return [shlex.join([*program, "-m", *joined])]


def _key(override: str) -> str:
    return override.partition("=")[0]


def _unnamed(key: str) -> bool:
    """Whether an override is an axis of the curves or picks rows of the table: no variant's name has it."""
    return key in ("cluster.k", "target", "transfer", "contestant") or key.endswith("seed")


def _k(result: Result) -> tuple[int, ...]:
    """The clusters that a contestant knows, which is none for a teacher."""
    if result.cluster_key is None or result.k is None:
        return ()
    return tuple(sorted(result.k)) if isinstance(result.k, list) else (result.k,)
