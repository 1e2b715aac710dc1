"""The artifacts of the store as W&B artifacts: data -> features -> labels -> student -> scores.

They are references, ``file://`` of the finished folder in the store. At the end of a stage it is not there
yet, and ``Artifact.add_reference`` refuses such a path; so the entries are written here, as it writes them
for ``checksum=False``: the digest is that of the path, for which the key in it vouches. What one stage logs
as its output and another as its input thereby has one digest, and the server makes one version of it.

``Run.use_artifact`` waits for the server and refuses to work offline. What it does with an artifact that was
not logged yet, log it without a creator and use it once it is there, is asked for here directly: it is
written to the offline file too, and ``wandb sync`` carries it out. An input whose own stage is sent after the
stages that read it, or was made without W&B, has no run behind it on the server.
"""

import json
from pathlib import Path

import wandb
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry
from wandb.sdk.lib.hashutil import md5_string

PASSING = ("job.json", "torchrun.log", "manifest.json")  # not there when a stage ends, or only afterwards


def log_output(run: wandb.Run, out: Path, upload: bool) -> None:
    """Declare what a stage has made.

    Args:
        run: of the stage.
        out: its partial folder, complete.
        upload: send the files too.
    """
    run.log_artifact(_artifact(out, out.with_suffix(""), upload))


def log_input(run: wandb.Run, folder: Path, upload: bool) -> None:
    """Declare that a stage reads the finished artifact in ``folder``."""
    artifact = _artifact(folder, folder, upload)
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)


def _artifact(folder: Path, final: Path, upload: bool) -> wandb.Artifact:
    stage, key = final.parent.name, final.name
    facts = folder / "facts.json"
    metadata = {"key": key, **(json.loads(facts.read_text()) if facts.exists() else {})}
    artifact = wandb.Artifact(f"{stage}-{key[:8]}", type=stage, metadata=metadata)
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if not file.is_file() or name in PASSING:
            continue
        if upload:
            artifact.add_file(str(file), name)
        else:
            uri = (final / name).absolute().as_uri()
            size, digest = file.stat().st_size, md5_string(uri)
            artifact.manifest.add_entry(ArtifactManifestEntry(path=name, ref=uri, digest=digest, size=size))
    return artifact
