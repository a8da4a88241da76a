# The two commands most people need: `make submit SEED=1337` and `make test`. `make help` lists the rest.
# Variables on the command line (SEED, TRACK, SUBMISSION, TTT_EPOCHS, …) reach the commands as environment variables.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
CONSTRAINT_FLAG := $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
CONTAINERFILE ?= Containerfile
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev submit smoke-set seed-table verify rerun report check test test-slow test-gpu zoo bench bench-gpu lint format wheel image clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(RUN_STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12 …" >&2; exit 3; }
	@echo "Setting up $(VENV) (once; most of the time goes into downloads) …"
	@$(PYTHON) -m venv $(VENV) || { echo "python venv is missing; on Debian: apt-get install python3-venv" >&2; exit 3; }
	@$(PIP) $(CONSTRAINT_FLAG) -e .
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@$(PIP) $(CONSTRAINT_FLAG) -e '.[dev]'
	@touch $@

setup: $(RUN_STAMP) ## Create the virtual environment

setup-dev: $(DEV_STAMP) ## … with the tools that tests and checks need

submit: $(RUN_STAMP) ## Train, package, evaluate, sign: SEED=1337 [TRACK=smoke] [SEEDS="1 2 3"] [SUBMISSION=folder] [RESUME=newest]
	@$(BIN)/harness submit

verify: $(RUN_STAMP) ## Verify every record in records/
	@$(BIN)/harness verify

rerun: $(RUN_STAMP) ## Repeat a recorded run and compare: RECORD=records/runs/….json
	@$(BIN)/harness rerun $(RECORD)

report: $(RUN_STAMP) ## Tables, Markdown and one HTML page from records/: [OUT=folder] [BASELINE=folder MARGIN="0.005 nats/token"]
	@$(BIN)/harness report

smoke-set: $(RUN_STAMP) ## The committed set: three seeds of the smoke track and their report, all into records/
	@SEEDS="1337 42 2025" TRACK=smoke $(BIN)/harness submit
	@OUT=records/report $(BIN)/harness report

seed-table: $(RUN_STAMP) ## The claims of pull request 1890 against signed runs: [SEEDS="1337 42 2025", which runs what is missing]
	@PYTHONPATH=. $(BIN)/python tests/bench/seed_table.py $(if $(SEEDS),--run $(SEEDS)) $(if $(OUT),--out $(OUT)/seed.md)

check: $(RUN_STAMP) ## Check a public record folder: FOLDER=path
	@$(BIN)/harness check folder $(FOLDER)

test: $(DEV_STAMP) ## The test suite (under 10 minutes on two cores)
	@$(BIN)/python -m pytest -m "not gpu and not slow"

test-slow: $(DEV_STAMP) ## Longer tests
	@$(BIN)/python -m pytest -m "slow and not gpu" --timeout=1800

test-gpu: $(DEV_STAMP) ## Tests that need a CUDA GPU
	@$(BIN)/python -m pytest -m gpu --timeout=1800

zoo: $(DEV_STAMP) ## Every cheat of the zoo and its honest twin, as a table
	@PYTHONPATH=.:tests/support $(BIN)/python tests/zoo/table.py

bench: $(DEV_STAMP) ## Speed as ratios within one run, and a few figures: [BENCH_FLAGS=--json]
	@PYTHONPATH=. $(BIN)/python tests/bench/run.py $(BENCH_FLAGS)

bench-gpu: $(DEV_STAMP) ## Speed of training and evaluation on one GPU, as ratios within one run: [BENCH_FLAGS="--recipe best"]
	@$(BIN)/python tests/bench/bench_train_gpu.py $(BENCH_FLAGS)
	@$(BIN)/python tests/bench/bench_eval_gpu.py $(BENCH_FLAGS)

lint: $(DEV_STAMP) ## Lint, format check, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(DEV_STAMP) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(DEV_STAMP) ## Build the wheel in dist/: it gives the harness command anywhere
	@$(BIN)/python -m pip wheel --quiet --no-deps -w dist .
	@ls dist/*.whl

image: ## Build a container image with the CPU set-up; CONTAINERFILE=Containerfile.cuda for GPUs
	@tool=$$(command -v podman || command -v buildah || command -v docker) || \
	  { echo "No container engine here. Install podman, buildah or docker." >&2; exit 3; }; \
	$$tool build -f $(CONTAINERFILE) -t golf $(IMAGE_FLAGS) .

clean: ## Remove the environment, run files and caches (records stay)
	rm -rf $(VENV) .golf build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
