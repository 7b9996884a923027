# make lab      open lesson 00 in JupyterLab        make test     check code, unit tests and every notebook
# make outputs  re-run and store every notebook    make test-all the same with the slow tests (some minutes more)
# make book     build the course as a site to read      make clean    remove the environment and caches
# Nothing needs to be installed or activated first: Python 3.11, 3.12 or 3.13 is enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One stamp for each thing that can be asked for, so that a learner gets no graders, linters or browsers.
LAB_STAMP := $(VENV)/installed-lab
TEST_STAMP := $(VENV)/installed-test
BOOK_STAMP := $(VENV)/installed-book
LESSON := course/00_the_whole_picture.ipynb
LAB_ARGS ?=
TEST_ARGS ?=

# Several OpenMP threads collapse when anything else runs on the machine; one is steady, and figures repeat.
# What is stored was drawn on a CPU; a GPU rounds otherwise, so it is left out (the gpu tests ask for it by name).
QUIET := PYTHONPATH=tests OMP_NUM_THREADS=1 SDLAB_DEVICE=cpu PYTHONWARNINGS= TOKENIZERS_PARALLELISM=false
# Two processes, each with one core and whole files: a notebook keeps its kernel, a test file its fixtures.
SPREAD := -n 2 --dist loadfile -p progress_plugin
# Limits are for what hangs. An unsolved lab must run to its end: notebook_plugin.py looks at what its cells raise.
NBVAL := -p notebook_plugin --nbval --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=600 \
	--nbval-sanitize-with="$(CURDIR)/tests/nbval_sanitize.cfg"
CHECKS := $(SPREAD) $(NBVAL) tests course solutions labs $(TEST_ARGS)
INSTALL := PIP_RESUME_RETRIES=20 $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
STOPPED := { echo "The installation has stopped. What was fetched is kept: the same command again goes on from there." >&2; \
	exit 1; }
# pip resumes a broken download from 25.2 on; the one that comes with Python is often older.
RESUMING_PIP := $(BIN)/python -c 'import pip; exit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 2))' || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.2" || $(STOPPED)

.PHONY: lab test test-all outputs book clean env environment

env: environment
	@$(MAKE) --no-print-directory $(LAB_STAMP)

lab: environment
	@$(MAKE) --no-print-directory $(LAB_STAMP)
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" $(LAB_ARGS) $(LESSON)

test: environment
	@$(MAKE) --no-print-directory $(TEST_STAMP)
	$(BIN)/ruff check .
	$(QUIET) $(BIN)/python -m pytest -m "not slow" $(CHECKS)

test-all: environment
	@$(MAKE) --no-print-directory $(TEST_STAMP) $(BOOK_STAMP)
	$(BIN)/ruff check .
	$(QUIET) $(BIN)/python -m pytest $(CHECKS)

outputs: environment
	@$(MAKE) --no-print-directory $(TEST_STAMP)
	$(QUIET) $(BIN)/python -m sdcourse.notebooks course solutions
	$(BIN)/sdlab labs build
	$(QUIET) $(BIN)/python -m sdcourse.gallery course/gallery.png

book: environment
	@$(MAKE) --no-print-directory $(BOOK_STAMP)
	$(BIN)/python utils/book/build.py build/book

$(LAB_STAMP): pyproject.toml constraints.txt
	@$(RESUMING_PIP)
	$(INSTALL) -e '.[lab]' || $(STOPPED)
	@touch $@

$(TEST_STAMP): pyproject.toml constraints.txt
	@$(RESUMING_PIP)
	$(INSTALL) -e '.[lab,test]' || $(STOPPED)
	$(BIN)/jupyter labextension disable --level=sys_prefix @jupyter/nbgrader 2>/dev/null  # learners need no grader's menus
	@touch $@ $(LAB_STAMP)

$(BOOK_STAMP): pyproject.toml constraints.txt
	@$(RESUMING_PIP)
	$(INSTALL) -e '.[book]' || $(STOPPED)
	@touch $@

# An environment that is half made, or has no pip, is made again (its stamps go with it); a whole one stays as it is.
environment:
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); \
	sys.exit(None if ok else "The course needs Python 3.11, 3.12 or 3.13; $(PYTHON) is %d.%d. Say which to use: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@if test -e $(VENV) && ! $(BIN)/python -c 'import pip' 2>/dev/null; then rm -rf $(VENV); \
	echo "$(VENV) was not whole (no Python in it, or no pip): it is made again." >&2; fi
	@test -e $(VENV) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "$(PYTHON) cannot make an environment: install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; \
	exit 1; }

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
