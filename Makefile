# The commands most people need: `make try`, `make submit SEED=1337` and `make test`. `make help` lists the rest.
# Variables on the command line (SEED, TRACK, SUBMISSION, TTT_EPOCHS, …) reach the commands as environment variables.

# A value is text: make must not expand it, and the shell must not run it. So values given on the command line are frozen
# here, and recipes read them from the environment, in quotes.
override GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
$(foreach name,$(GIVEN),$(eval override export $(name) := $$(value $(name))))
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
export PYTHON CONSTRAINTS
unexport PYTHONPATH
# Names given for one target, not by another Makefile: its command refuses those that it does not read. RECORD and FOLDER are
# arguments.
submit try verify rerun report check: override export GIVEN_TO_MAKE = \
  $(if $(filter-out 0,$(MAKELEVEL))$(word 2,$(MAKECMDGOALS)),,$(filter-out PYTHON CONSTRAINTS TORCH_INDEX SHELL MAKE% \
  $(filter RECORD,$(@:rerun=RECORD)) $(filter FOLDER,$(@:check=FOLDER)),$(GIVEN)))

override VENV := .venv
override BIN := $(VENV)/bin
override VENV_STAMP := $(VENV)/.made
override CORE_STAMP := $(VENV)/.installed
override TRAIN_STAMP := $(VENV)/.installed-train
override DEV_STAMP := $(VENV)/.installed-dev
# -I: neither the working folder nor the user's own packages are looked at. A set-up of pip that installs elsewhere
# (PIP_USER, PIP_TARGET) is for other environments. It takes no project from a folder once a constraint has a digest.
override NO_CONSTRAINTS := { echo "CONSTRAINTS is no file that can be read. fix: give the path of one, or CONSTRAINTS= for none." >&2; exit 2; }
override PIP := sed 's/ *--hash=[^ ]*//g' < "$${CONSTRAINTS:-/dev/null}" > $(VENV)/constraints.txt || $(NO_CONSTRAINTS); \
  env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 $(BIN)/python -I -m pip install --quiet --no-compile \
  --disable-pip-version-check -c $(VENV)/constraints.txt
# On all cores, where pip compiles one file after another; some packages hold files that no Python 3 can compile.
override COMPILE := $(BIN)/python -I -m compileall -qq -j 0 $(VENV)/lib
override PIP_FAILED := { echo "pip could not install the packages (above). fix: connect to a package index; a pip.conf with" \
  "target or prefix installs elsewhere: PIP_CONFIG_FILE=/dev/null make setup leaves it out." >&2; exit 3; }
# An environment that was copied or moved with its folder belongs to another clone: it is made anew.
ifneq ($(shell test "$$(cat $(VENV_STAMP) 2>/dev/null)" = "$$(pwd -P)" || echo another),)
.PHONY: $(VENV_STAMP)
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev submit try smoke-set seed-table verify rerun report check test test-slow test-gpu zoo bench bench-gpu lint format wheel image clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

$(VENV_STAMP):
	@"$$PYTHON" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $$PYTHON is older. Try: make PYTHON=python3.12 …" >&2; exit 3; }
	@echo "Setting up $(VENV) (once; most of the time goes into downloads) …"
	@rm -rf $(VENV)
	@"$$PYTHON" -I -m venv $(VENV) || { echo "python venv is missing; on Debian: apt-get install python3-venv" >&2; exit 3; }
	@pwd -P > $@

$(CORE_STAMP): $(VENV_STAMP) pyproject.toml constraints.txt
	@$(PIP) -e . || $(PIP_FAILED)
	@$(COMPILE); touch $@

$(TRAIN_STAMP): $(VENV_STAMP) pyproject.toml constraints.txt
	@test -n "$$TORCH_INDEX" || command -v nvidia-smi > /dev/null || echo "note: no GPU here. Where pip finds only the build" \
	  "of torch for GPUs (gigabytes), TORCH_INDEX=address of PyTorch's index of CPU builds takes the small one."
	@$(PIP) $${TORCH_INDEX:+--extra-index-url "$$TORCH_INDEX"} -e '.[train]' || $(PIP_FAILED)
	@$(COMPILE); touch $(CORE_STAMP) $@

$(DEV_STAMP): $(TRAIN_STAMP)
	@$(PIP) -e '.[dev]' || $(PIP_FAILED)
	@$(COMPILE); touch $@

setup: $(TRAIN_STAMP) ## Create the virtual environment

setup-dev: $(DEV_STAMP) ## … with the tools that tests and checks need

submit: $(TRAIN_STAMP) ## Train, package, evaluate, sign: SEED=1337 [TRACK=smoke] [SEEDS="1 2 3"] [SUBMISSION=folder] [RESUME=newest]
	@$(BIN)/harness submit

try: $(TRAIN_STAMP) ## A run that leaves no trace: no key, no intent, no record. QUICK=1: a short one
	@$(BIN)/harness try

verify: $(CORE_STAMP) ## Verify every record in records/, and your own in .golf/records: [BASELINE=folder MARGIN="…" TRACK=smoke]
	@$(BIN)/harness verify

rerun: $(TRAIN_STAMP) ## Repeat a recorded run and compare: RECORD=records/runs/….json
	@$(BIN)/harness rerun -- "$${RECORD:?is not set. Example: make rerun RECORD=records/runs/….json}"

report: $(CORE_STAMP) ## Tables, Markdown and one HTML page from the same records: [OUT=folder] [BASELINE=folder MARGIN="0.005 nats/token"]
	@$(BIN)/harness report

smoke-set: $(TRAIN_STAMP) ## The committed set: three seeds of the smoke track and their report, all into records/
	@GOLF_RECORDS_DIR=records SEEDS="1337 42 2025" TRACK=smoke $(BIN)/harness submit
	@GOLF_RECORDS_DIR=records OUT=records/report $(BIN)/harness report

seed-table: $(TRAIN_STAMP) ## The claims of pull request 1890 against signed runs: [SEEDS="1337 42 2025", which runs what is missing]
	@PYTHONPATH="$$PWD" $(BIN)/python tests/bench/seed_table.py $${SEEDS:+--run $$SEEDS} $${OUT:+--out "$$OUT/seed.md"}

check: $(CORE_STAMP) ## Check a public record folder: FOLDER=path
	@$(BIN)/harness check folder -- "$${FOLDER:?is not set. Example: make check FOLDER=path}"

test: $(DEV_STAMP) ## The test suite, by two processes (under 6 minutes on two cores)
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not gpu and not slow"

test-slow: $(DEV_STAMP) ## Longer tests
	@$(BIN)/python -m pytest -m "slow and not gpu" --timeout=1800

test-gpu: $(DEV_STAMP) ## Tests that need a CUDA GPU
	@$(BIN)/python -m pytest -m gpu --timeout=1800

zoo: $(DEV_STAMP) ## Every cheat of the zoo and its honest twin, as a table: [CHEATS="names"]
	@PYTHONPATH="$$PWD:$$PWD/tests/support" $(BIN)/python tests/zoo/table.py $$CHEATS

bench: $(DEV_STAMP) ## Speed as ratios within one run, and a few figures: [BENCH_FLAGS=--json]
	@PYTHONPATH="$$PWD" $(BIN)/python tests/bench/run.py $$BENCH_FLAGS

bench-gpu: $(DEV_STAMP) ## Speed of training and evaluation on one GPU, as ratios within one run: [BENCH_FLAGS="--recipe best"]
	@$(BIN)/python tests/bench/bench_train_gpu.py $$BENCH_FLAGS
	@$(BIN)/python tests/bench/bench_eval_gpu.py $$BENCH_FLAGS

lint: $(DEV_STAMP) ## Lint, format check, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(DEV_STAMP) ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(CORE_STAMP) ## Build the wheel in dist/: it gives the harness command anywhere
	@rm -rf build  # what an older version left there would be packed too
	@$(BIN)/python -I -m pip wheel --quiet --no-deps -w dist .
	@ls dist/*.whl

image: ## Build a container image: [TORCH_INDEX=address of CPU builds]
	@tool=$$(command -v podman || command -v buildah || command -v docker) || \
	  { echo "No container engine here. Install podman, buildah or docker." >&2; exit 3; }; \
	$$tool build --build-arg TORCH_INDEX -f Containerfile -t golf $$IMAGE_FLAGS .

clean: ## Remove the environment, run files and caches (records stay, also your own)
	rm -rf $(VENV) .golf/runs .golf/fleet .golf/report build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
