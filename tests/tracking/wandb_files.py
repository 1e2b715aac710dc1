"""Reading what an offline run of W&B has written: the records of ``run-<id>.wandb``."""

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

from cf_lightning.tracking.wandb_service import end_service

BLOCK = 32768
FULL, LAST = 1, 4


@dataclass
class Logged:
    """One run as ``wandb sync`` would send it."""

    folder: Path
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def names(self) -> set[str]:
        """Everything that a panel can show."""
        return {name for row in self.history for name in row} | set(self.summary)

    def curve(self, name: str) -> list[float]:
        return [row[name] for row in self.history if name in row]

    def table(self, name: str) -> list[dict[str, Any]]:
        content = json.loads((self.folder / "files" / self.summary[name]["path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def read_runs(folder: Path) -> list[Logged]:
    """The offline runs below a run's folder, in the order in which they were begun."""
    end_service()  # the service of this process writes what it has
    found = [_read(file) for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]
    return sorted(found, key=lambda logged: logged.run.start_time.ToNanoseconds())


def only(runs: Iterable[Logged], job_type: str) -> Logged:
    (found,) = [logged for logged in runs if logged.run.job_type == job_type]
    return found


def _read(file: Path) -> Logged:
    logged = Logged(file.parent)
    for record in _records(file.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            logged.run = record.run
            _update(logged.config, record.run.config.update)
        elif kind == "config":
            _update(logged.config, record.config.update)
        elif kind == "history":
            logged.history.append({})
            _update(logged.history[-1], record.history.item)
        elif kind == "summary":
            _update(logged.summary, record.summary.update)
        elif kind == "artifact":
            artifact = record.artifact
            own = logged.tables if artifact.type == "run_table" else logged.outputs
            (logged.inputs if artifact.use_after_commit else own)[artifact.name] = artifact
        elif kind == "exit":
            logged.exit_code = record.exit.exit_code
    return logged


def _update(into: dict[str, Any], items: Iterable[Any]) -> None:
    for item in items:
        *path, last = item.nested_key or [item.key]
        place = into
        for name in path:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)


def _records(data: bytes) -> Iterator[Any]:
    """LevelDB's log format: blocks of 32 KiB, chunks of them with checksum, length and kind."""
    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield pb.Record.FromString(whole)
            whole = b""
