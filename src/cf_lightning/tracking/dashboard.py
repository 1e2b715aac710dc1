"""``python -m cf_lightning.tracking.dashboard --entity E --project P``: a saved report on a W&B project.

One section for each step of the method, each with the runs of its job type: training curves, clusters,
pseudo-label training, results, and what a sweep gains over k. It follows the project as runs come in.
"""

import argparse
import sys
from importlib import import_module
from typing import Any

STEP = "trainer/global_step"


def build(entity: str, project: str) -> Any:
    """The report, not saved yet; needs no network.

    Args:
        entity: user or team.
        project: where the runs are.

    Returns:
        A ``wandb_workspaces.reports.v2.Report``.
    """
    wr: Any = import_module("wandb_workspaces.reports.v2")
    blocks: list[Any] = [wr.TableOfContents()]
    for title, (job_type, panels) in sections(wr).items():
        runs = wr.Runset(entity=entity, project=project, name=job_type, filters=f"JobType = '{job_type}'")
        blocks += [wr.H1(title), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"ClusterFit: {project}",
        description="Every stage is a run, its job type the stage; its group is the experiment and sweep.",
        blocks=blocks,
        width="fluid",
    )


def sections(wr: Any) -> dict[str, tuple[str, list[Any]]]:
    """For each section the job type of its runs, and its panels; ``wr`` is the library."""
    inertia = wr.LinePlot(title="inertia", x=STEP, y=["kmeans/inertia"], log_y=True)
    facts = [wr.BarPlot(title=name, metrics=[wr.SummaryMetric(name)]) for name in ("largest_share", "empty")]
    pictures = [
        wr.MediaBrowser(title=title, media_keys=[f"pictures/{name}"])
        for title, name in (("cluster sizes", "sizes"), ("images of clusters", "sheet_1"))
    ]
    return {
        "Pre-training": ("pretrain", _training(wr)),
        "k-means": ("cluster", [inertia, *facts]),
        "Clusters": ("cluster_report", [*pictures, _table(wr, "clusters")]),
        "Training on pseudo-labels": ("clusterfit", _training(wr)),
        "Gain per target against k": (
            "sweep",
            [_lines(wr, "gain_over_k_table", "step", "lineKey", "lineVal"), _table(wr, "sweep")],
        ),
        "Results": (
            "results",
            [
                _lines(wr, "tables/gains", "k", "target", "gain"),
                *(_table(wr, name) for name in ("gains", "results", "stages")),
            ],
        ),
    }


def _training(wr: Any) -> list[Any]:
    return [
        wr.LinePlot(title="training loss", x=STEP, y=["train/loss_step"], smoothing_factor=0.6),
        wr.LinePlot(title="validation loss", x=STEP, y=["val/loss"]),
        wr.LinePlot(title="validation top-1", x=STEP, y=["val/top1"]),
    ]


def _lines(wr: Any, table: str, x: str, line: str, y: str) -> Any:
    """A chart of a table that the runs have logged: column ``y`` against ``x``, a line for each ``line``."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": table}},
        chart_name="wandb/lineseries/v0",
        chart_fields={"step": x, "lineKey": line, "lineVal": y},
        chart_strings={"title": "student - teacher", "xname": "k"},
        layout=wr.Layout(w=24, h=9),
    )


def _table(wr: Any, name: str) -> Any:
    return wr.WeavePanelSummaryTable(table_name=f"tables/{name}", layout=wr.Layout(w=24, h=10))


def main() -> None:
    """Build and save it, and say where it is."""
    parser = argparse.ArgumentParser("python -m cf_lightning.tracking.dashboard", description=__doc__)
    parser.add_argument("--entity", required=True, help="user or team")
    parser.add_argument("--project", default="cf_lightning")
    asked = parser.parse_args()
    try:
        report = build(asked.entity, asked.project)
    except ModuleNotFoundError as error:
        if error.name != "wandb_workspaces":
            raise
        sys.exit("the dashboard needs wandb-workspaces: pip install 'cf-lightning[dashboard]'")
    import wandb

    if not wandb.login(prompt=False):
        sys.exit("the dashboard is saved on the server, and W&B has no API key here; call `wandb login`")
    print(report.save().url)


if __name__ == "__main__":
    main()
