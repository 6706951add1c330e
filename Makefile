# make          lists the targets
# Every target makes .venv first if it is missing. PYTHON names the interpreter that makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
WORKERS ?= 2
MODEL ?= koa-grader@champion

.DEFAULT_GOAL := help
.PHONY: help install demo audit train eval prepare predict sweep ui compare reproduce register serve server prune test test-slow mutation lint docs bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## make .venv and install everything (about 2 minutes)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev,offline,docs]"
	@touch $@

need-%:  # before anything is installed
	@test -n "$($*)" || { echo "error: $* is missing; type $(HOW)" >&2; exit 2; }

demo: $(STAMP)  ## train, evaluate and explain on phantoms in 4 minutes; prints where everything is
	$(BIN)/python -m koa_lightning.demo

audit: HOW = make audit DATA=FOLDER
audit: need-DATA $(STAMP)  ## look for leakage and faults in all parts: DATA=FOLDER [ARGS="data=folder near=false"]
	$(BIN)/python -m koa_lightning.audit data.root="$(DATA)" $(ARGS)

train: $(STAMP)  ## train; ARGS="model=effb3 loss=focal data=chen2018 data.root=DIR"
	$(BIN)/python -m koa_lightning.train $(ARGS)

eval: HOW = make eval CKPT=FILE
eval: need-CKPT $(STAMP)  ## measure a checkpoint: CKPT=FILE or CKPT=runs:/ID [ARGS="split=val"]
	$(BIN)/python -m koa_lightning.eval ckpt="$(CKPT)" $(ARGS)

predict: HOW = make predict CKPT=FILE INPUT=FILE
predict: need-CKPT need-INPUT $(STAMP)  ## grade images: CKPT=FILE INPUT=FILE|FOLDER
	$(BIN)/python -m koa_lightning.predict ckpt="$(CKPT)" input="$(INPUT)" $(ARGS)

prepare: HOW = make prepare INPUT=FOLDER OUTPUT=FOLDER
prepare: need-INPUT need-OUTPUT $(STAMP)  ## DICOM and other images to PNG that name nobody: INPUT=FOLDER OUTPUT=FOLDER [ARGS="spacing=0.2"]
	$(BIN)/python -m koa_lightning.prepare input="$(INPUT)" output="$(OUTPUT)" $(ARGS)

sweep: $(STAMP)  ## two losses by two learning rates on phantoms, or your own ARGS="loss=ce,focal ..."
	$(BIN)/python -m koa_lightning.train -m $(if $(ARGS),$(ARGS),experiment=sweep loss=ce,focal optimizer.lr=3e-4,1e-3)

ui: $(STAMP)  ## open the MLflow UI on mlruns/, at http://127.0.0.1:5000
	@echo 'runs, best first: http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning&orderByKey=metrics.%60best%2Fquadratic_kappa%60&orderByAsc=false'
	MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db --host 127.0.0.1

compare: $(STAMP)  ## what differs between runs, metrics and curves side by side: RUNS="NAME ID ..." (or ARGS=)
	$(BIN)/python -m koa_lightning.compare $(RUNS) $(ARGS)

reproduce: HOW = make reproduce RUN=ID
reproduce: need-RUN $(STAMP)  ## train a run once more and compare every metric: RUN=ID [ARGS="run_it=false"]
	$(BIN)/python -m koa_lightning.reproduce run="$(RUN)" $(ARGS)

register: HOW = make register RUN=ID
register: need-RUN $(STAMP)  ## store a run's best checkpoint in the model registry: RUN=ID [ARGS="name=koa-grader alias=champion"]
	$(BIN)/python -m koa_lightning.register run="$(RUN)" $(ARGS)

serve: $(STAMP)  ## answer over HTTP with a registered model, at http://127.0.0.1:5001: [MODEL=koa-grader@champion]
	MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-sqlite:///mlruns/mlflow.db}" MLFLOW_DISABLE_TELEMETRY=true \
	MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false PATH="$(CURDIR)/$(BIN):$$PATH" \
	$(BIN)/mlflow models serve -m "models:/$(MODEL)" --env-manager local --host 127.0.0.1 --port 5001

server: $(STAMP)  ## MLflow for several users on PostgreSQL, at http://127.0.0.1:5000 [ARGS="folder=DIR port=5000"]
	$(BIN)/python -m koa_lightning.server $(ARGS)

prune: $(STAMP)  ## which checkpoints of a sweep can go: ARGS="sweep_run=ID keep=3 [yes=true]"
	$(BIN)/python -m koa_lightning.prune_checkpoints $(ARGS)

# Many processes import the package: it is compiled once, not by each, also where PYTHONDONTWRITEBYTECODE is set.
test test-slow: export PYTHONDONTWRITEBYTECODE =
# What the tests of a file share is made once, not in each process; the long ones are not kept for the end.
BY_FILE := --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## run the quick tests with coverage (5 to 6 minutes on two cores)
	$(BIN)/python -m slipcover --format json --out .coverage.json -m pytest -n $(WORKERS) $(BY_FILE) -m "not slow"
	$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --fail-under 90

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
