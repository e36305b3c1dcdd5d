# make demo    index the standard library with the model that ships, and read what a few of its neurons do
# make test    everything that CI runs on the code: format, lint, types, layers, tests
# make test-slow  tests that take longer: kills, real servers, the README's commands, coverage of intervals, Ray
# make browser  the pages in a real Chromium (Debian's package, or NEURONAGENT_CHROMIUM), light and dark, wide and narrow
# make conformance  the protocol's official suite and Inspector, from npm, against the MCP server; needs Node
# make bench   measure speed and memory; prints tables, asserts nothing
# make bench-llm LLM=name [JUDGE=name]  explain published neurons with a language model (OPENAI_BASE_URL, OPENAI_API_KEY)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Waiting threads sleep instead of spinning: on a machine that is shared, spinning makes everything slower.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test format lint types layers unit test-slow browser conformance bench bench-llm clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "neuronagent needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/neuronagent demo

# Types are checked beside the tests: on two cores neither has to wait for the other.
test: setup
	$(MAKE) --jobs 2 --output-sync=target format lint layers types unit

format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/pyright

layers: setup
	$(BIN)/lint-imports --no-cache

unit: setup
	$(BIN)/python -m pytest -n 2 -m "not slow and not browser"

test-slow: setup
	$(BIN)/python -m pytest -n 2 -m "slow and not ray and not browser"
	$(BIN)/python -m pytest -m ray

browser: setup
	$(BIN)/python -m tests.browser

conformance: setup
	$(BIN)/python -m tests.conformance

bench: setup
	$(BIN)/python -m tests.benchmarks

bench-llm: setup
	$(BIN)/python -m tests.benchmarks.llm $(if $(LLM),--llm $(LLM)) $(if $(JUDGE),--judge $(JUDGE))

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
