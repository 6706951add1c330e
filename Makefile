# make          lists the targets
# Every target makes .venv first if it is missing. PYTHON names the interpreter that makes it.
# Commands run in the active environment instead, as it is, if koa-lightning is installed there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HAS_PACKAGE := from importlib.metadata import version; version("koa-lightning")
ACTIVE := $(shell active="$${VIRTUAL_ENV:-$$CONDA_PREFIX}"; \
	test -n "$$active" && ! test "$$active" -ef $(VENV) && "$$active/bin/python" -I -c '$(HAS_PACKAGE)' 2>/dev/null && \
	printf %s "$$active")
READY := $(if $(ACTIVE),,$(STAMP))
PY := "$(if $(ACTIVE),$(ACTIVE)/bin,$(BIN))/python"
ARGS ?=
WORKERS ?= 2
MODEL ?= koa-grader@champion
PORT_KEY = $(if $(PORT),port="$(PORT)")

.DEFAULT_GOAL := help
.PHONY: help install demo audit train eval prepare predict sweep ui compare reproduce register serve serve-mlflow server prune test test-slow mutation lint docs bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv and install everything (2 to 6 minutes)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev,offline,docs]"
	@touch $@

need-%:  # before anything is installed
	@test -n "$($*)" || { echo "error: $* is missing; type $(HOW)" >&2; exit 2; }

demo: $(READY)  ## train, evaluate and explain on phantoms in 4 minutes; prints where everything is
	$(PY) -m koa_lightning.demo

audit: HOW = make audit DATA=FOLDER
audit: need-DATA $(READY)  ## look for leakage and faults in all parts: DATA=FOLDER [ARGS="data=folder near=false"]
	$(PY) -m koa_lightning.audit data.root="$(DATA)" $(ARGS)

train: $(READY)  ## train; ARGS="model=effb3 loss=focal data=chen2018 data.root=DIR"
	$(PY) -m koa_lightning.train $(ARGS)

eval: HOW = make eval CKPT=FILE
eval: need-CKPT $(READY)  ## measure a checkpoint: CKPT=FILE or CKPT=runs:/ID [ARGS="split=val"]
	$(PY) -m koa_lightning.eval ckpt="$(CKPT)" $(ARGS)

predict: HOW = make predict INPUT=FILE
predict: need-INPUT $(READY)  ## grade images: INPUT=FILE|FOLDER [CKPT=FILE]
	$(PY) -m koa_lightning.predict ckpt="$(or $(CKPT),pretrained)" input="$(INPUT)" $(ARGS)

prepare: HOW = make prepare INPUT=FOLDER OUTPUT=FOLDER
prepare: need-INPUT need-OUTPUT $(READY)  ## DICOM and other images to pseudonymous PNG: INPUT=FOLDER OUTPUT=FOLDER [ARGS="spacing=0.2"]
	$(PY) -m koa_lightning.prepare input="$(INPUT)" output="$(OUTPUT)" $(ARGS)

sweep: $(READY)  ## two losses by two learning rates on phantoms, or your own ARGS="loss=ce,focal ..."
	$(PY) -m koa_lightning.train -m $(if $(ARGS),$(ARGS),experiment=sweep loss=ce,focal optimizer.lr=3e-4,1e-3)

ui: $(READY)  ## open the MLflow UI on mlruns/, at http://127.0.0.1:5000 [PORT=5000]
	$(PY) -m koa_lightning.tracking.ui $(PORT_KEY)

compare: $(READY)  ## what differs between runs, metrics and curves side by side: RUNS="NAME ID ..." (or ARGS=)
	$(PY) -m koa_lightning.compare $(RUNS) $(ARGS)

reproduce: HOW = make reproduce RUN=ID
reproduce: need-RUN $(READY)  ## train a run once more and compare every metric: RUN=ID [ARGS="run_it=false"]
	$(PY) -m koa_lightning.reproduce run="$(RUN)" $(ARGS)

register: HOW = make register RUN=ID
register: need-RUN $(READY)  ## store a run's best checkpoint in the model registry: RUN=ID [ARGS="name=koa-grader alias=champion"]
	$(PY) -m koa_lightning.register run="$(RUN)" $(ARGS)

serve: $(READY)  ## grade over HTTP, with a page for readers, at http://127.0.0.1:8000: [CKPT=FILE PORT=8000 ARGS="workers=2"]
	$(PY) -m koa_lightning.serve ckpt="$(or $(CKPT),pretrained)" $(PORT_KEY) $(ARGS)

serve-mlflow: $(READY)  ## MLflow's own server of a registered model, at http://127.0.0.1:5001: [MODEL=koa-grader@champion PORT=5001]
	$(PY) -m koa_lightning.serving.mlflow_server model="$(MODEL)" $(PORT_KEY)

server: $(READY)  ## MLflow for several users on PostgreSQL, at http://127.0.0.1:5000 [PORT=5000 ARGS="folder=DIR"]
	$(PY) -m koa_lightning.server $(PORT_KEY) $(ARGS)

prune: $(READY)  ## which checkpoints of a sweep can go: ARGS="sweep_run=ID keep=3 [yes=true]"
	$(PY) -m koa_lightning.prune_checkpoints $(ARGS)

# Many processes import the package: it is compiled once, not by each, also where PYTHONDONTWRITEBYTECODE is set.
test test-slow: export PYTHONDONTWRITEBYTECODE =
# What the tests of a file share is made once, not in each process; the long ones are not kept for the end.
BY_FILE := --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## run the quick tests (5 minutes on two cores) [COVERAGE=1: of how many lines? a fifth slower]
	$(BIN)/python $(if $(COVERAGE),-m slipcover --format json --out .coverage.json )-m pytest -n $(WORKERS) $(BY_FILE) -m "not slow"
	$(if $(COVERAGE),$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --fail-under 90)

test-slow: $(STAMP)  ## run the long tests too, and those of properties on more examples
	EXAMPLES=200 $(BIN)/python -m pytest -n $(WORKERS) -m "slow or hypothesis"

mutation: $(STAMP)  ## change metrics, uncertainty, losses and splits bit by bit: does a test notice? [MODULE=uncertainty.conformal]
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 1 $(if $(MODULE),"koa_lightning.$(MODULE).*")
	$(BIN)/mutmut results

lint: $(STAMP)  ## ruff, mypy and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## build the documentation into site/; a broken link or anchor stops it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(STAMP)  ## measure the speed ratios side by side, one table at the end
	$(BIN)/python -m benchmarks.run

clean:  ## remove what can be made again: caches, build output (not outputs/, mlruns/ or .venv)
	rm -rf build dist site mutants *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage.json
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
