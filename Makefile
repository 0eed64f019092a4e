PYTHON ?= python3
PYTEST := .venv/bin/python -m pytest
EXTRAS := dev,visa,pyrpl,columnar,postgres,plot

# pip reads these: the first binds what is installed, both bind what builds it
# (newer versions of pip look at the second one only).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

PINS := pyproject.toml constraints.txt
QUICK := not heavy and not soak and not hardware and not peer

.PHONY: demo test test-all check static coverage soak bench clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: .venv/.run
	.venv/bin/benchtree demo

test: .venv/.dev
	$(PYTEST) -m "$(QUICK)"

test-all: .venv/.all
	.venv/bin/python -m tools.check_packages
	$(PYTEST)

check: test static

# The optional libraries are installed because their callers are type-checked too.
static: .venv/.all
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pyright
	.venv/bin/lint-imports
	.venv/bin/python -m tools.check_imports
	.venv/bin/python -m tools.check_snippets
	.venv/bin/python -m tools.check_wheel

coverage: .venv/.all
	.venv/bin/python -m coverage run -m pytest
	.venv/bin/python -m coverage report

soak: .venv/.all
	$(PYTEST) -m soak

bench: .venv/.all
	.venv/bin/python -m benchmarks

clean:
	rm -rf .venv build dist .coverage htmlcov .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Three sizes of one environment: what the demo needs, what development needs,
# and every library that an optional part uses. A larger one is also the smaller.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: $(PINS) | .venv/bin/python
	.venv/bin/python -m pip install --quiet --editable .
	touch $@

.venv/.dev: $(PINS) | .venv/bin/python
	.venv/bin/python -m pip install --quiet --editable ".[dev]"
	touch .venv/.run $@

.venv/.all: $(PINS) | .venv/bin/python
	.venv/bin/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch .venv/.run .venv/.dev $@
