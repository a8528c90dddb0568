# `make run` and `make test` do all the set-up they need. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOB ?= examples/addition-cpu.yaml
SIZE ?= 1
IMAGES ?=
# For `test-gpu`, on a machine without megatron-core: a folder with its unpacked wheel, as CONTRIBUTING.md says.
MEGATRON ?=
# Much of what tests do is wait for processes that they started.
TEST_PROCESSES ?= 3

# uv is taken from the machine, else installed into a folder of its own.
UV := $(or $(shell command -v uv 2>/dev/null),.venv-uv/bin/uv)

export UV_LINK_MODE ?= hardlink
# Torch and vLLM are compiled once here instead of at each start of each process: some machines forbid writing bytecode.
export UV_COMPILE_BYTECODE := 1

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 25

.venv-uv/bin/uv:
	@echo "==> installing uv into .venv-uv"
	@$(PYTHON) -m venv .venv-uv || { echo "make: '$(PYTHON) -m venv' does not work here; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@.venv-uv/bin/pip install --quiet uv

$(STAMP): requirements/cpu.txt pyproject.toml | $(UV)
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || \
	  { echo "make: vLLM on CPU needs the system library libnuma; on Debian and Ubuntu: apt-get install libnuma1" >&2; exit 1; }
	@echo "==> installing the pinned environment into $(VENV) (about 6.5 GB; half a minute with a warm cache)"
	@$(UV) venv --quiet --allow-existing --python '>=3.11,<3.14' $(VENV)
	@$(BIN)/python -c 'import os, shutil, sysconfig as s; \
	  found = shutil.which(s.get_config_var("CC").split()[0]), os.path.exists(s.get_path("include") + "/Python.h"); \
	  raise SystemExit(not all(found))' || \
	  { echo "make: one dependency, pycosat, is compiled here and needs gcc and Python's headers; on Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev" >&2; exit 1; }
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements/cpu.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## Install everything that the other targets need

.PHONY: run
run: setup ## Train the example job on this machine (JOB=path for another)
	$(BIN)/rljob run $(JOB)

.PHONY: test
test: setup images-for-tests ## The tests that need no GPU, but for the slowest
	$(BIN)/python -m pytest -m "not gpu and not slow" --numprocesses $(TEST_PROCESSES) --reruns 1

.PHONY: test-slow
test-slow: setup images-for-tests ## Those that take minutes each, beside a quicker one in `test` of the same guarantee
	$(BIN)/python -m pytest -m "slow and not gpu" --numprocesses 2

.PHONY: images-for-tests
images-for-tests: setup
	@# Ahead of pytest, because the first build takes minutes and tests have a time limit each.
	@PYTHONPATH=tests $(BIN)/python -m kube.programs || true
	@PYTHONPATH=tests $(BIN)/python -m kube.packages || true
	@PYTHONPATH=tests $(BIN)/python -m images || true

.PHONY: cluster
cluster: setup ## Start a real Kubernetes cluster on this machine (SIZE=0, 1 or 2 real nodes; IMAGES=yes: with ours); needs root
	@PYTHONPATH=tests $(BIN)/python -m kube up $(SIZE) $(if $(IMAGES),images)

.PHONY: cluster-down
cluster-down: setup ## Remove that cluster and all that it left
	@PYTHONPATH=tests $(BIN)/python -m kube down

.PHONY: demo-cluster
demo-cluster: setup ## A real cluster, the operator from its chart, the example job until it is complete (JOB=path); needs root
	@PYTHONPATH=tests $(BIN)/python -m e2e_cluster.demo $(JOB)

.PHONY: demo-preemption
demo-preemption: setup ## A job on this machine whose processes are taken away, beside one left alone: the same curve
	@PYTHONPATH=tests $(BIN)/python -m e2e.demo

.PHONY: picture
picture: setup ## Draw the README's picture anew, from a real run
	@PYTHONPATH=tests $(BIN)/python -m e2e.picture

.PHONY: kubectl
kubectl: setup ## Ask that cluster (ARGS="get pods")
	@PYTHONPATH=tests $(BIN)/python -m kube kubectl $(ARGS)

.PHONY: test-gpu
test-gpu: ## GPU tests with the Python at hand (PYTHON=python3), installing nothing
	@if missing=$$($(PYTHON) -c 'import numpy, pydantic, pytest, torch, transformers' 2>&1); then \
	  PYTHONPATH=$(if $(MEGATRON),$(MEGATRON):)crds:operator:trainer_image:tests $(PYTHON) -m pytest -c /dev/null --rootdir . --import-mode=importlib \
	    --noconftest -p no:cacheprovider -W ignore::pytest.PytestUnknownMarkWarning -ra tests/trainer/test_gpu.py tests/trainer/test_gpu_megatron.py; \
	else echo "test-gpu skipped: $(PYTHON) has no GPU stack ($$(tail -n 1 <<< "$$missing"))"; fi

.PHONY: lint
lint: setup ## ruff, mypy, and that generated files are current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: setup ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: crds
crds: setup ## Write what is made from the models: CRD, editor schema, reference, parts of the chart
	$(BIN)/python -m rljob_api.generated
	PYTHONPATH=charts $(BIN)/python -m rljob_chart.generated

.PHONY: images
images: setup ## Build the operator's and the trainer's image, without a registry; needs root
	@PYTHONPATH=tests $(BIN)/python -m kube.packages
	@PYTHONPATH=tests $(BIN)/python -m images

PIN = $(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header

.PHONY: lock
lock: | $(UV) ## Pin every dependency anew (no index addresses in the result)
	$(PIN) --override requirements/overrides.txt --extra operator --extra trainer --extra dev \
	  pyproject.toml requirements/cpu.in -o requirements/cpu.txt
	@# Images get the versions that the tests run with; vLLM for CUDA asks for some of its own.
	$(PIN) --constraint requirements/cpu.txt requirements/build.in -o requirements/build.txt
	$(PIN) --constraint requirements/cpu.txt --extra operator pyproject.toml -o requirements/operator.txt
	$(PIN) --constraint requirements/cpu.txt --override requirements/overrides.txt --extra trainer \
	  pyproject.toml requirements/cpu.in -o requirements/trainer-cpu.txt
	$(PIN) --override requirements/overrides.txt --extra trainer --extra vllm pyproject.toml -o requirements/trainer-cuda.txt

.PHONY: bench
bench: setup ## Measure against floors and peers; results go to bench/results
	$(BIN)/python -m bench

.PHONY: bench-kills
bench-kills: setup ## Kill small jobs 800 times on both backends; takes an hour, and goes on where it was ended
	OMP_NUM_THREADS=1 $(BIN)/python -m bench kills

.PHONY: clean
clean: ## Remove what the other targets made here (caches of other projects stay)
	rm -rf $(VENV) .venv-uv runs dist build .mypy_cache .ruff_cache .pytest_cache
