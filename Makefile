# make lab      open lesson 00 in JupyterLab        make test     check code, unit tests and every notebook
# make outputs  re-run and store every notebook    make test-all the same with the slow tests (some minutes more)
# make book     build the course as a site to read      make clean    remove the environment and caches
# Nothing needs to be installed or activated first: Python 3.11, 3.12 or 3.13 is enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
BOOK_STAMP := $(VENV)/installed-book
LESSON := course/00_the_whole_picture.ipynb
LAB_ARGS ?=
TEST_ARGS ?=

# Several OpenMP threads collapse when anything else runs on the machine; one is steady, and figures repeat.
QUIET := PYTHONPATH=tests OMP_NUM_THREADS=1 PYTHONWARNINGS= TOKENIZERS_PARALLELISM=false
# Two processes, each with one core and whole files: a notebook keeps its kernel, a test file its fixtures.
SPREAD := -n 2 --dist loadfile
NBVAL := -p notebook_plugin --nbval --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with=tests/nbval_sanitize.cfg
# An unsolved lab must run to its end; tests/notebook_plugin.py looks at what its cells raise, and at pictures.
NBVAL_LAX := -p notebook_plugin --nbval-lax --nbval-current-env --nbval-cell-timeout=300

.PHONY: lab test test-all outputs book clean env

env: $(STAMP)

lab: $(STAMP)
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" $(LAB_ARGS) $(LESSON)

test: $(STAMP)
	$(BIN)/ruff check .
	$(QUIET) $(BIN)/python -m pytest -m "not slow" $(SPREAD) $(NBVAL) tests course solutions $(TEST_ARGS)
	$(QUIET) $(BIN)/python -m pytest $(SPREAD) $(NBVAL_LAX) labs

test-all: $(BOOK_STAMP)
	$(BIN)/ruff check .
	$(QUIET) $(BIN)/python -m pytest $(SPREAD) $(NBVAL) tests course solutions $(TEST_ARGS)
	$(QUIET) $(BIN)/python -m pytest $(SPREAD) $(NBVAL_LAX) labs

outputs: $(STAMP)
	$(QUIET) $(BIN)/python -m sdcourse.notebooks course solutions
	$(BIN)/sdlab labs build
	$(QUIET) $(BIN)/python -m sdcourse.gallery course/gallery.png

book: $(BOOK_STAMP)
	$(BIN)/python utils/book/build.py build/book

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); \
	sys.exit(None if ok else "The course needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d. Say which to use: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lab,test]'
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyter/nbgrader 2>/dev/null  # learners need no grader's menus
	@touch $@

$(BOOK_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book]'
	@touch $@

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
