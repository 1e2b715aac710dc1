"""W&B in trouble: no key, no server, a deleted run, stages that fail or are stopped."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from cf_lightning.errors import ConfigError
from cf_lightning.runtime import Runtime
from cf_lightning.tracking.wandb import WandbTracker
from cf_lightning.tracking.wandb_service import end_service
from wandb_files import Logged, read_runs

KEY = "a" * 40
NODE = {"k": 8, "seed": 3}
QUICK = WandbTracker(init_timeout=2.0, finish_timeout=2.0)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """No key, no settings and no service of anybody else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETRC", str(tmp_path / "netrc"))
        patch.setenv("WANDB_HTTP_TIMEOUT", "2")
        for name in ("CONFIG", "CACHE", "DATA"):
            patch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
        yield patch
        end_service()


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(run_dir=str(tmp_path / "run"), experiment="demo", overrides=["cluster.k=8"])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "store" / "cluster" / "0123456789abcdef0123.partial"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def nobody(environment: pytest.MonkeyPatch) -> Iterator[str]:
    """A key for a server that is not there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        environment.setenv("WANDB_BASE_URL", address)
        environment.setenv("WANDB_API_KEY", KEY)
        environment.delenv("WANDB_MODE")
        yield address


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our own warnings."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("cf_lightning")]


def runs_of(runtime: Runtime) -> list[Logged]:
    return read_runs(Path(runtime.run_dir))


def test_a_resumed_stage_resumes_its_run_and_a_stage_done_anew_has_a_new_one(
    out: Path, runtime: Runtime
) -> None:
    with pytest.raises(ZeroDivisionError), QUICK.run("cluster", out, runtime, NODE, {}):
        _ = 1 / 0
    with QUICK.run("cluster", out, runtime, NODE, {}):
        (out / "facts.json").write_text('{"k": 8}')
    failed, resumed = runs_of(runtime)
    assert (failed.exit_code, resumed.exit_code) == (1, 0)
    assert failed.run.run_id == resumed.run.run_id
    assert not failed.outputs
    assert resumed.summary["k"] == 8
    for file in out.iterdir():
        file.unlink()
    with QUICK.run("cluster", out, runtime, NODE, {}):
        pass
    assert runs_of(runtime)[2].run.run_id != failed.run.run_id


def test_the_group_names_experiment_and_sweep(out: Path, runtime: Runtime) -> None:
    with QUICK.run("cluster", out, runtime.model_copy(update={"sweep_dir": "/x/sweep_1"}), NODE, {}):
        pass
    (logged,) = runs_of(runtime)
    assert logged.run.run_group == "demo/sweep_1"
    assert {"k": 8, "seed": 3, "key": out.stem, "overrides": ["cluster.k=8"]}.items() <= logged.config.items()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_is_stopped_has_failed(number: signal.Signals, out: Path, runtime: Runtime) -> None:
    code = (
        "import signal, sys, time; from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background shell ignores it
        "from cf_lightning.preemption import exit_when_asked\n"
        "from cf_lightning.runtime import Runtime\n"
        "from cf_lightning.tracking.wandb import WandbTracker\n"
        "exit_when_asked()\n"
        "runtime = Runtime(run_dir=sys.argv[2], experiment='demo')\n"
        "with WandbTracker().run('cluster', Path(sys.argv[1]), runtime, {}, {}):\n"
        "    print('begun', flush=True)\n"
        "    while True:\n"  # a signal just before a long sleep would be seen after it
        "        time.sleep(0.1)\n"
    )
    line = [sys.executable, "-c", code, str(out), runtime.run_dir]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.wait(60)
    (logged,) = runs_of(runtime)
    assert logged.exit_code == 1


def test_files_are_sent_when_that_is_asked_for(out: Path, runtime: Runtime, tmp_path: Path) -> None:
    features = tmp_path / "store" / "extract" / "fedcba98765432100123"
    features.mkdir(parents=True)
    (features / "features.npy").write_bytes(b"123")
    with QUICK.model_copy(update={"upload": True}).run("cluster", out, runtime, NODE, {"features": features}):
        (out / "labels.npy").write_bytes(b"12345")
    (logged,) = runs_of(runtime)
    (entry,) = logged.inputs["extract-fedcba98"].manifest.contents
    assert Path(entry.local_path).read_bytes() == b"123"
    sent = {entry.path: entry for entry in logged.outputs["cluster-01234567"].manifest.contents}
    out.rename(out.with_suffix(""))  # as the store does before anything is synced
    assert Path(sent["labels.npy"].local_path).read_bytes() == b"12345"


@pytest.mark.slow
def test_failing_calls_are_told_once_and_end_nothing(
    out: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def broken(*_: Any, **__: Any) -> None:
        raise BrokenPipeError("the service is gone")

    for name in ("log", "log_artifact", "define_metric", "finish"):
        monkeypatch.setattr(wandb.Run, name, broken)
    with QUICK.run("cluster", out, runtime, NODE, {"features": out / "missing"}):
        logger = QUICK.lightning()
        assert not isinstance(logger, bool)
        logger.log_metrics({"train/loss": 1.0}, step=1)
        QUICK.show({"a": 1}, {"t": []}, {})
    assert told(caplog) == ["W&B: cluster-01234567 is not complete there: the service is gone"]
    monkeypatch.undo()


def test_without_a_key_a_run_is_offline_and_says_how_to_send_it(
    runtime: Runtime, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.delenv("WANDB_MODE")
    WandbTracker().check(Path(runtime.run_dir))
    assert f"wandb sync {runtime.run_dir}/wandb" in caplog.text
    assert os.environ["WANDB_MODE"] == "offline", "for the processes of the stages"


def test_online_without_a_key_is_refused(runtime: Runtime, environment: pytest.MonkeyPatch) -> None:
    environment.delenv("WANDB_MODE")
    with pytest.raises(ConfigError, match=r"runtime\.logger\.mode=online: .*no API key.*wandb login"):
        WandbTracker(mode="online").check(Path(runtime.run_dir))


def test_the_environment_holds_over_the_mode_and_says_so(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    WandbTracker().check(Path(runtime.run_dir))
    assert not told(caplog)
    WandbTracker(mode="online").check(Path(runtime.run_dir))
    assert "WANDB_MODE" in caplog.text


def test_a_server_that_is_not_there_is_found_at_the_start(
    nobody: str, out: Path, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    WandbTracker(mode="online").check(Path(runtime.run_dir))
    assert nobody in caplog.text
    assert "wandb sync" in caplog.text
    with QUICK.run("cluster", out, runtime, NODE, {}):
        pass
    assert [logged.exit_code for logged in runs_of(runtime)] == [0]


@pytest.mark.slow
def test_a_server_that_goes_away_leaves_the_run_on_disk(
    nobody: str, out: Path, runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    with QUICK.run("cluster", out, runtime, NODE, {}):
        logger = QUICK.lightning()
        assert not isinstance(logger, bool)
        logger.log_metrics({"kmeans/inertia": 2.5}, step=1)
    (logged,) = runs_of(runtime)
    assert logged.run.run_id == (out / "wandb_id.txt").read_text()
    assert logged.curve("kmeans/inertia") == [2.5]
    (warning,) = told(caplog)
    assert warning.startswith("W&B: cluster-01234567 cannot be opened: ")
    assert f"wandb sync {runtime.run_dir}/wandb" in warning


class Deleted(BaseHTTPRequestHandler):
    """A server where every run was deleted."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(409)
        self.end_headers()
        error = "run a/b/c was previously created and deleted; try a new run name"
        self.wfile.write(json.dumps({"errors": [{"message": error}]}).encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_a_run_that_was_deleted_on_the_server_begins_anew(
    out: Path, runtime: Runtime, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (out / "wandb_id.txt").write_text("old")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Deleted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    environment.setenv("WANDB_API_KEY", KEY)
    environment.delenv("WANDB_MODE")
    with caplog.at_level(logging.WARNING), QUICK.run("cluster", out, runtime, NODE, {}):
        pass
    server.shutdown()
    server.server_close()
    (logged,) = runs_of(runtime)
    assert logged.run.run_id == (out / "wandb_id.txt").read_text() != "old"
    assert "run old was deleted on the server; cluster-01234567 begins a new one" in caplog.text


def test_a_service_that_does_not_hear_its_end_is_killed(out: Path, runtime: Runtime) -> None:
    with QUICK.run("cluster", out, runtime, NODE, {}):
        pass
    services = [one for one in psutil.Process().children() if one.name().startswith("wandb-core")]
    assert len(services) == 1
    services[0].suspend()
    end_service(patience=0.5)
    assert not services[0].is_running()
