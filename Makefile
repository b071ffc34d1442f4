# Each target makes the environment it needs (tools/environment.py); quick when it is there already.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3.11
VENV ?= .venv
# A further package index, for the CPU build of torch (see README).
TORCH_INDEX ?=
# The folder with recorded market data that `make real` reads.
REALDATA ?= ../shared/realdata
# Candles first: they give the price by which open interest in USD becomes coins.
REAL_SPECS := candles funding open_interest
# Tests run beside one another, a file's tests in one process (they share its fixtures); one worker for each core.
WORKERS ?= auto
# Passed on: make demo ARGS="--home /tmp/x", make test ARGS="-k hedge".
ARGS ?=

RUN := $(VENV)/bin
export DO_NOT_TRACK := true

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

.PHONY: venv
venv: ## Make the virtual environment from the lock
	@$(PYTHON) -c '' 2>/dev/null || { echo "make: $(PYTHON) is not there: install Python 3.11, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) tools/environment.py "$(VENV)" --torch-index "$(TORCH_INDEX)"

.PHONY: demo
demo: venv ## The whole loop on the embedded market: data, model, gates, decision, report
	@$(RUN)/oihedge demo $(ARGS)

.PHONY: up
up: venv ## Prefect's and MLflow's pages over what the demo left
	@$(RUN)/oihedge up $(ARGS)

.PHONY: serve
serve: venv ## Run the flows on their schedules
	@$(RUN)/oihedge serve $(ARGS)

.PHONY: real
real: ## Retrain and evaluate on recorded market data (REALDATA=folder)
	@test -d "$(REALDATA)" || { echo "make real: no recorded data at $(REALDATA): set REALDATA=folder (README names the public sources)" >&2; exit 3; }
	@$(MAKE) venv
	@$(RUN)/oihedge import --experiment real_perps --folder "$(REALDATA)" $(REAL_SPECS:%=--spec conf/import/perps_2025_%.yaml) $(ARGS)
	@$(RUN)/oihedge retrain --experiment real_perps $(ARGS)

.PHONY: test
test: venv ## The tests, with coverage
	@$(RUN)/python -m pytest -m "not long" -n $(WORKERS) --maxprocesses 4 --dist loadscope --no-loadscope-reorder --cov --cov-report=term $(ARGS)

.PHONY: test-long
test-long: venv ## The long tests: browser, processes killed half-way, then thousands of random payloads
	@$(RUN)/python -m pytest -m long tests/integration tests/unit tests/faults $(ARGS)

.PHONY: bench-simulator
bench-simulator: venv ## Seconds for a year of the embedded market
	@$(RUN)/python benchmarks/simulator.py

.PHONY: bench-unwind-limit
bench-unwind-limit: venv ## How well p_unwind can be known at all on the embedded market (some 5 minutes)
	@$(RUN)/python benchmarks/unwind_limit.py $(ARGS)

.PHONY: bench-ingest
bench-ingest: venv ## Rows per second to validated Delta rows beside bare ccxt, and memory (some 15 minutes)
	@$(RUN)/python benchmarks/ingest.py

.PHONY: bench-features
bench-features: venv ## Features over 40 million minute rows: seconds and memory
	@$(RUN)/python benchmarks/features.py

.PHONY: bench-train
bench-train: venv ## Training beside stock pytorch-forecasting: samples/s, time to a loss, memory (some 30 minutes)
	@$(RUN)/python benchmarks/train.py $(ARGS)

# An environment of its own: what only a comparison needs is no part of the lock.
.venv-others/installed: benchmarks/others.txt constraints.txt
	@echo "others: installing darts and neuralforecast into .venv-others; the first time takes some minutes"
	@$(PYTHON) -m venv --clear .venv-others
	@.venv-others/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement benchmarks/others.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	@touch $@

.PHONY: bench-others
bench-others: .venv-others/installed ## Training of darts and neuralforecast; bench-train runs them too once this has installed them
	@.venv-others/bin/python benchmarks/others.py $(ARGS)

.PHONY: bench-retrain
bench-retrain: venv ## Peak memory of the whole retrain, one and three years of three assets (some 8 minutes)
	@$(RUN)/python benchmarks/retrain.py $(ARGS)

.PHONY: bench-predict
bench-predict: venv ## Forecast latency and windows/s beside stock pytorch-forecasting
	@$(RUN)/python benchmarks/predict.py $(ARGS)

.PHONY: lint
lint: venv ## Style, types and the borders between the rooms
	@$(RUN)/ruff format --check .
	@$(RUN)/ruff check .
	@$(RUN)/mypy
	@$(RUN)/lint-imports

.PHONY: format
format: venv ## Let ruff write the style
	@$(RUN)/ruff format .
	@$(RUN)/ruff check --fix .

.PHONY: check
check: lint test ## What a change must pass

.PHONY: lock
lock: venv ## Write constraints.txt anew from what is installed
	@{ sed -n '/^#/p' constraints.txt; $(RUN)/pip freeze --all --exclude-editable --exclude pip | sed -E 's/^(torch==[^+]+)\+.*/\1/' | LC_ALL=C sort -f; } > constraints.new
	@mv constraints.new constraints.txt

.PHONY: clean
clean: ## Remove what the tools cached; data, models and the environment stay
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov build
