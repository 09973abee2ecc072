# Every target sets up what it needs: a virtual environment of its own, made when it is missing or stale.
#
#   make demo         train a teacher, distil it through the service, print the comparison   (~2 min after set-up)
#   make test         all quick tests, with the coverage of abcore and store                 (< 10 min on 2 cores)
#   make check        ruff, mypy, import-linter, migrations against models
#   make up           the whole service on this machine: API, worker, broker
#   make test-slow    the proofs that take minutes
#   make hostile      561 files made to harm, each into the running service      (~10 min on 2 cores)
#   make audit        the pins against the public advisories (asks a service on the internet)
#   make contract     the API against its own OpenAPI document, by schemathesis  (~10 min on 2 cores)
#   make api-lint     the OpenAPI document by spectral                                (needs node, and npm's registry)
#   make clients      Python and TypeScript clients, generated, type-checked and used   (needs node, and both registries)
#   make faults       the service under kill -9, freezes, full disks, jumping clocks, on both grounds  (~13 min; docs/faults.md)
#   make faults-smoke the same for two minutes in all, on SQLite; part of .ci/run
#   make soak         2,000 small jobs: API and worker must not grow
#   make bench        every published figure again
#
# PYTHON=python3.12 make ...   another interpreter (>= 3.11)
# PIP_FLAGS="..."              passed to pip, for a mirror or a wheel folder

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
AUDIT := .audit
STAMP := $(VENV)/.installed
SOURCES := abcore api benchmarks client demo leash migrations server store tests worker

# Tests train small networks, several at once: threads would only get into each other's way.
SMALL := OMP_NUM_THREADS=1

.PHONY: demo test test-slow hostile faults faults-smoke soak contract api-lint clients check format up audit bench clean

$(STAMP): pyproject.toml client/pyproject.toml constraints.txt
	@echo "==> Setting up $(VENV) with $(PYTHON) (about two minutes, 1.6 GB: most of it is torch)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "abdistill needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: PYTHON=python3.11 make")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
		--constraint constraints.txt --editable client --editable '.[demo,dev,export,timm]'
	@touch $@

demo: $(STAMP)
	@echo "==> Demo: a teacher goes in over HTTP, a compressed student comes out (DATASET=$(or $(DATASET),digits))"
	@DATASET='$(DATASET)' DATA='$(DATA)' $(BIN)/python -m demo

test: $(STAMP)
	@echo "==> Tests: all but the slow ones, on SQLite and on a PostgreSQL that they start themselves"
	@$(BIN)/python -m coverage erase
	@$(SMALL) $(BIN)/python -m coverage run -m pytest -m "not slow" -n 3 --dist loadfile --durations=10 $(TESTS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report --fail-under=90

test-slow: $(STAMP)
	@echo "==> Slow proofs"
	@$(SMALL) $(BIN)/python -m pytest -m slow --timeout=1800 $(TESTS)

hostile: $(STAMP)
	@echo "==> The hostile corpus, into the running service"
	@$(SMALL) $(BIN)/python -m pytest tests/hostile/test_service.py -m slow -q --verdicts docs/hostile/verdicts.json
	@$(BIN)/python docs/hostile_page.py

contract: $(STAMP)
	@echo "==> The API against its own document: all checks, examples to stateful, with a key and without"
	@$(SMALL) $(BIN)/python -m pytest tests/api/test_contract.py -m slow -q --timeout=1800

api-lint: $(STAMP)
	@echo "==> The OpenAPI document, by spectral's rules"
	@$(BIN)/python tests/contract/document.py >$(VENV)/openapi.json
	@npx --yes @stoplight/spectral-cli@6.16.3 lint --fail-severity=hint $(VENV)/openapi.json

clients: $(STAMP)
	@echo "==> Generated clients: nothing left out, type-checked, and used against a service"
	@PIP_FLAGS="$(PIP_FLAGS)" $(BIN)/python tests/contract/clients.py

faults: $(STAMP)
	@echo "==> Faults, for at most twenty minutes, on SQLite + folder and beside it on PostgreSQL + S3"
	@$(SMALL) PYTHONPATH=tests $(BIN)/python -m faults --minutes 17.5

faults-smoke: $(STAMP)
	@echo "==> Faults, for two minutes in all, on SQLite + folder"
	@$(SMALL) PYTHONPATH=tests $(BIN)/python -m faults --grounds sqlite --minutes 1.1

soak: $(STAMP)
	@echo "==> Soak: 2,000 small jobs"
	@$(SMALL) PYTHONPATH=tests $(BIN)/python -m faults.soak

check: $(STAMP)
	@echo "==> ruff";            $(BIN)/ruff check $(SOURCES) && $(BIN)/ruff format --check $(SOURCES)
	@echo "==> mypy --strict";   $(BIN)/mypy
	@echo "==> import-linter";   $(BIN)/lint-imports
	@echo "==> migrations";      $(BIN)/python -m migrations.check

format: $(STAMP)
	@$(BIN)/ruff check --fix-only --quiet $(SOURCES); $(BIN)/ruff format --quiet $(SOURCES)

up: $(STAMP)
	@$(BIN)/abdistill-server up

audit:
	@echo "==> Known vulnerabilities of what constraints.txt pins"
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
		$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) pip-audit; }
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt >$(AUDIT)/report 2>&1; code=$$?; \
		cat $(AUDIT)/report; \
		if [ $$code -ne 0 ] && ! grep -q "^Found .* known vulnerabilit" $(AUDIT)/report; then \
			echo "make audit: the advisory service did not answer for all pins: this is NO audit."; exit 2; fi; \
		exit $$code

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(AUDIT) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage* demo-output
