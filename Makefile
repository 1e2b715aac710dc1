.PHONY: help setup demo test lint bench bench-sides bench-kmeans torture audit lock wheel clean
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
unexport PYTHONDONTWRITEBYTECODE  # without byte code each process takes twice as long to start

help:  ## what there is
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/: .*## /\t/' | expand -t 14

setup: $(VENV)/ready  ## make .venv from the hashed lock file

$(VENV)/ready: requirements.lock requirements-uv.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --require-hashes -r requirements-uv.lock
	$(VENV)/bin/uv pip sync --quiet --python $(RUN) --require-hashes requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(RUN) --no-deps --no-build-isolation --editable .
	rm -rf $(VENV)/lib/python*/site-packages/cf_lightning  # hatch copies conf/ there, which would grow stale
	touch $@

demo: setup  ## the main job on the embedded data: hashtags -> clusters -> student -> table
	$(RUN) -m cf_lightning +experiment=hashtag_r50

test: setup  ## every test, one process and one thread for each core
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses=logical --dist=worksteal

lint: setup  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: setup  ## speed as ratios of two sides measured in turn; OPTIONS="kmeans video" measures these parts
	$(RUN) experiments/bench/bench.py $(OPTIONS)

bench-sides: setup  ## what bench is also measured against and the lock file leaves out
	$(VENV)/bin/uv pip install --quiet --python $(RUN) --constraint requirements.lock --group bench

bench-kmeans: setup  ## our k-means against faiss; OPTIONS="--pack images.zip" adds real features
	$(RUN) experiments/kmeans_bench/kmeans_bench.py $(OPTIONS)

torture: setup  ## break it in every way we know, go on where it stopped; OPTIONS="--minutes 2 --out FOLDER" tries a sample
	$(RUN) experiments/reliability/torture.py $(OPTIONS)

audit: setup  ## known holes of the locked dependencies; asks a service on the network
	$(VENV)/bin/uv pip install --quiet --python $(RUN) --constraint requirements.lock --group audit
	.ci/audit $(OPTIONS)

lock: setup  ## resolve the dependencies anew
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --upgrade --extra sweep --group dev --output-file requirements.lock pyproject.toml
	echo uv | $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	  --no-header --upgrade --output-file requirements-uv.lock -

wheel: setup  ## sdist and wheel in dist/
	$(RUN) -m build --no-isolation

clean:  ## remove everything that was made, artifacts and runs excepted
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
