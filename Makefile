# make setup | demo | check | test | test-long | lint | docs: each works as the first command on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo check test test-long fuzz lint docs licences audit-dependencies lock format clean

setup: $(READY)

# --no-deps: the lock is complete, and names the one OpenCV build that needs no display library.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	# yapf, which MMEngine imports, writes its grammar at its first import: two at once read half a file
	$(BIN)/python -c "import yapf.yapflib.yapf_api"
	touch $@

demo: $(READY)
	$(BIN)/python tools/demo.py

# Processes of one thread each; the tests of a file share their fixtures in one process. Their number and the order are
# those of tests/conftest.py: what takes longest begins first.
# Bytecode is kept, since tests start many processes.
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# Two minutes, while one works: no browser, no kills, no whole jobs or ensembles.
check: lint
	$(PYTEST) -m "not (e2e or browser or kills or networks)"

test: $(READY)
	$(PYTEST)

# The long forms: 10,000 mutants, 2,000 uploads, 50 kills of every tool, every small config trained twice and resumed.
test-long: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.stress.long

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages of the API are made anew: one of a module that is gone would fail.
docs: $(READY)
	rm -rf docs/api docs/generated
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# Coverage-guided fuzzing of what reads files, FUZZ_SECONDS for each target; findings are left in work_dirs/fuzz.
FUZZ_SECONDS ?= 300
fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)-fuzz atheris
	for target in radiograph checkpoint; do PYTHONPATH=$(VENV)-fuzz OMP_NUM_THREADS=1 \
		$(BIN)/python -W ignore -m tests.stress.fuzz $$target --seconds $(FUZZ_SECONDS) || exit 1; done

licences: $(READY)
	$(BIN)/python docs/licences.py

# Known vulnerabilities of what the lock names. Asks an advisory service, and fails where that cannot be reached; in an
# environment of its own, since it brings its own pip.
audit-dependencies:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --strict --disable-pip --no-deps -r requirements.lock

# Pins every package for every platform and Python; names no registry.
lock:
	$(PYTHON) -m uv pip compile pyproject.toml --universal --python-version 3.10 --extra web --extra dicom --extra distributed --extra dev \
		--no-header --no-annotate --output-file requirements.lock

clean:
	rm -rf $(VENV) $(VENV)-fuzz $(VENV)-audit docs/_build work_dirs/demo data/demo
