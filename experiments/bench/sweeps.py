"""Sweeps over k: what their driver costs beside the stages, again from the store, and their report."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from statistics import median

from front_door import process
from measuring import Bound, Row, Side, in_turn, middle, seconds

from cf_lightning.runs import Run
from cf_lightning.sweep import job_folders

K = (100, 200, 400, 700, 1000)
SHARED = ("target=[species]", "transfer=[linear]", "clusterfit.epochs=40")  # jobs of about two minutes


def rows(folder: Path) -> Iterator[Row]:
    program = ("-m", "cf_lightning")
    demo = ("+experiment=demo", *SHARED, f"runtime.store={folder}/sweep_store")
    # what all k share: the teacher, its features, the other contestants
    alone = [*program, *demo, "contestant=[random,teacher]", "clusterfit.epochs=1", f"cluster.k={K[-1]}"]
    process(*alone, f"hydra.run.dir={folder}/shared")()

    sweep = process(
        *program, "-m", *demo, f"cluster.k={','.join(map(str, K))}", f"hydra.sweep.dir={folder}/sweep"
    )
    whole = sweep()
    stages = sum(step.seconds or 0 for run in finished(folder) for step in run.steps if not step.cached)
    beside = (whole - stages) / len(K)
    yield Row(
        f"Sweep of {len(K)} k over a cached extraction / the sum of its stages",
        f"{whole / stages:.2f}",
        f"{whole:.0f} against {stages:.0f} s: {beside:.1f} s a job beside its stages",
        whole / stages,
        Bound("<=", 1.1),
    )

    [again] = in_turn(sweep, rounds=3)
    each = [one / len(K) for one in again]
    sides = f"{median(again):.1f} s for all of them"
    yield Row("The same sweep again, a job", middle(each, " s"), sides, median(each), Bound("<=", 4, " s"))

    [report] = in_turn(process("-m", "cf_lightning.report", f"{folder}/sweep"), rounds=3)
    page = folder / "sweep" / str(len(K) - 1) / "report.html"
    yield Row(
        f"Report of this sweep and its runs, up to {K[-1]} clusters",
        middle(report, " s"),
        f"the largest page has {page.stat().st_size / 2**20:.1f} MiB",
        median(report),
        Bound("<=", 20, " s"),
    )
    yield opening(page)


def opening(page: Path) -> Row:
    what, chromium = f"Opening the page of {K[-1]} clusters in Chromium", which("chromium")
    if chromium is None:
        return Row(what)

    def browser(url: str) -> Side:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", url]
        devnull = subprocess.DEVNULL
        return lambda: seconds(lambda: subprocess.run(command, check=True, stdout=devnull, stderr=devnull))

    ours, empty = in_turn(browser(page.as_uri()), browser("about:blank"))
    more = [one - other for one, other in zip(ours, empty, strict=True)]
    sides = f"{median(ours):.2f} against {median(empty):.2f} s for an empty page, the whole browser"
    return Row(what, middle(more, " s"), sides, median(more), Bound("<=", 2, " s"))


def finished(folder: Path) -> list[Run]:
    return [Run.read(job) for job in job_folders(folder / "sweep")]
