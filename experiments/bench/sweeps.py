"""Sweeps over k: what their driver costs beside the stages, again from the store, and their report."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from statistics import median

from front_door import PROGRAM, process
from measuring import Bound, Row, Side, in_turn, seconds

from cf_lightning.runs import Run
from cf_lightning.sweep import job_folders

PAIRS = ((100, 1000), (200, 700), (300, 400))  # a sweep each, of jobs that are short
LARGEST, JOBS = 1000, 3  # of the sweep that is repeated
TENTH = 12  # seconds: of a job of two minutes
SHARED = ("+experiment=demo", "target=[species]", "transfer=[linear]", "clusterfit.epochs=1")


def rows(folder: Path) -> Iterator[Row]:
    store = f"runtime.store={folder}/sweep_store"
    # what all k share: the teacher, its features, the other contestants
    alone = ("contestant=[random,teacher]", "clusterfit.epochs=1", f"cluster.k={LARGEST}")
    process(*PROGRAM, *SHARED, store, *alone, f"hydra.run.dir={folder}/shared")()

    def sweep(name: str, ks: tuple[int, ...]) -> Side:
        over = f"cluster.k={','.join(map(str, ks))}"
        return process(*PROGRAM, "-m", *SHARED, store, over, f"hydra.sweep.dir={folder}/{name}")

    whole, stages = [], []
    for number, pair in enumerate(PAIRS):
        whole.append(sweep(f"pair{number}", pair)())
        runs = (Run.read(job) for job in job_folders(folder / f"pair{number}"))
        stages.append(sum(step.seconds or 0 for run in runs for step in run.steps if not step.cached))
    beside = [(all_of_it - of_stages) / 2 for all_of_it, of_stages in zip(whole, stages, strict=True)]
    times = median(all_of_it / of_stages for all_of_it, of_stages in zip(whole, stages, strict=True))
    note = f"{times:.2f} times its stages, and 1.1 times from jobs of {10 * median(beside):.0f} s on"
    what = "Sweeps of two k over a cached extraction: a job beside its stages, of 10 % of two minutes"
    bound = Bound("<=", TENTH, " s")
    yield Row(what, beside, bound, "s", median(whole), median(stages), "s", note, digits=1)

    ks = tuple(sorted(k for pair in PAIRS for k in pair))[-JOBS:]
    [again] = in_turn(sweep("sweep", ks), rounds=3, warm_up=False)
    each, note = [one / JOBS for one in again], f"{median(again):.1f} s for all {JOBS}"
    yield Row("A sweep of the larger k again, a job", each, Bound("<=", 4, " s"), "s", note=note)

    [report] = in_turn(process("-m", "cf_lightning.report", f"{folder}/sweep"), rounds=3, warm_up=False)
    page = folder / "sweep" / str(ks.index(LARGEST)) / "report.html"
    note = f"the largest page has {page.stat().st_size / 2**20:.1f} MiB"
    what = f"Report of this sweep and its runs, up to {LARGEST} clusters"
    yield Row(what, report, Bound("<=", 20, " s"), "s", note=note)
    yield opening(page)


def opening(page: Path) -> Row:
    what, chromium = f"Opening the page of {LARGEST} clusters in Chromium", which("chromium")
    if chromium is None:
        return Row(what)

    def browser(url: str) -> Side:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", url]
        devnull = subprocess.DEVNULL
        return lambda: seconds(lambda: subprocess.run(command, check=True, stdout=devnull, stderr=devnull))

    ours, empty = in_turn(browser(page.as_uri()), browser("about:blank"))
    more = [one - other for one, other in zip(ours, empty, strict=True)]
    note = "beyond an empty page, the whole browser"
    return Row(what, more, Bound("<=", 2, " s"), "s", median(ours), median(empty), "s", note)
