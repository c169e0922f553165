# Needs Python >= 3.11 and make. The first target that needs the environment builds .venv; later ones reuse it until pyproject.toml changes.
PYTHON ?= python3
PRESET ?= laptop
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test coverage slow wheel clean

help:
	@echo "make demo [PRESET=laptop|gpu]  train on TwoRoom, plan in it, write runs/demo/report.html"
	@echo "make test                      lint, types and the test suite"
	@echo "make coverage                  the test suite with the lines that it does not reach"
	@echo "make slow                      the tests that take minutes"
	@echo "make wheel                     dist/*.whl and dist/*.tar.gz"
	@echo "make clean                     remove caches and dist/ (never .venv or runs/)"

# The stamp is written last, so an interrupted install leaves none and the next make starts it again.
$(STAMP): pyproject.toml
	@rm -f $@
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python >= 3.11 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12 ..." if v < (3, 11) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv: torch with its libraries is about 6 GB, so this takes minutes"
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

demo: $(STAMP)
	$(BIN)/jepa-actions demo --preset $(PRESET) --out runs/demo

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --cov --cov-report=term

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

wheel: $(STAMP)
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf dist build htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
