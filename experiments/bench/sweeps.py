"""Sweeps over k: what their driver costs beside the stages, again from the store, and their report."""

from collections.abc import Iterator
from pathlib import Path

from front_door import process
from measuring import Bound, Row, in_turn, middle

from cf_lightning.runs import Run
from cf_lightning.sweep import job_folders

K = (100, 200, 400, 700, 1000)
SHARED = ("target=[species]", "transfer=[linear]", "clusterfit.epochs=60")


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
    yield Row(
        f"Sweep of {len(K)} k over a cached extraction / the sum of its stages",
        f"{whole / stages:.2f}",
        f"{whole:.0f} against {stages:.0f} s",
        whole / stages,
        Bound("<=", 1.1),
    )

    [again] = in_turn(sweep, rounds=3)
    each = [seconds_of_all / len(K) for seconds_of_all in again]
    bound = Bound("<=", 4, " s")
    yield Row("The same sweep again, a job", middle(each, " s"), "", sorted(each)[1], bound)

    [report] = in_turn(process("-m", "cf_lightning.report", f"{folder}/sweep"), rounds=3)
    bound = Bound("<=", 20, " s")
    size = (folder / "sweep" / str(len(K) - 1) / "report.html").stat().st_size / 2**20
    sides = f"the page of k={K[-1]} has {size:.1f} MiB"
    yield Row(
        f"Report of a sweep of {len(K)}, up to {K[-1]} clusters",
        middle(report, " s"),
        sides,
        sorted(report)[1],
        bound,
    )


def finished(folder: Path) -> list[Run]:
    return [Run.read(job) for job in job_folders(folder / "sweep")]
