# make demo: install, train on the bundled corpus, print reviews.   make test: install, run all tests.   make help: the rest.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := .venv/bin
FILES  := settings.ini setup.py constraints.txt pyproject.toml
PIP    := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-rooms test-others test-pytest-1 test-pytest-2 test-pytest-3 test-long shuffled fuzz faults coverage mutants bench venv export readme walkthrough dist lock help clean

demo: .venv/installed ## train a small model on the bundled corpus and print reviews
	$(BIN)/imdb_lm demo

test: .venv/installed-dev ## the notebooks' tests and pytest, two at a time
	$(MAKE) --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) --no-print-directory test-pytest-1 test-others test-rooms test-pytest-2 test-pytest-3

# One thread each: two that share two cores lose more time waiting for each other than they gain.
test-%: export OMP_NUM_THREADS = 1
test-rooms: .venv/installed-dev
	$(BIN)/nbdev_test --n_workers 1 --file_re '^0'
test-others: .venv/installed-dev
	$(BIN)/nbdev_test --n_workers 1 --skip_file_re '^[_.0]'
test-pytest-1: .venv/installed-dev
	$(BIN)/python -m pytest tests/test_[a-gt]*.py
test-pytest-2: .venv/installed-dev
	$(BIN)/python -m pytest tests/test_[h-m]*.py
test-pytest-3: .venv/installed-dev
	$(BIN)/python -m pytest tests/test_[!a-mt]*.py

shuffled: .venv/installed-dev ## pytest's tests in a random order, two at a time
	$(BIN)/pip install --quiet --disable-pip-version-check pytest-randomly pytest-xdist
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-long: .venv/installed-dev ## everything, the slow tests too (all of IMDb where it is at hand)
	$(BIN)/nbdev_test --n_workers 2 --flags slow
	$(BIN)/python -m pytest -m "slow or not slow"

fuzz: .venv/installed-dev ## a million odd inputs for all that reads something, led by coverage (hours; Linux or macOS)
	$(BIN)/pip install --quiet --disable-pip-version-check atheris
	$(BIN)/python tests/fuzz.py

faults: .venv/installed-dev ## kill, interrupt and starve all that takes long, at 200 random moments (minutes; Linux)
	$(BIN)/python tests/faults.py

coverage: .venv/installed-dev ## which lines and branches the tests reach, the notebooks' examples among them (an hour)
	$(BIN)/pip install --quiet --disable-pip-version-check coverage
	$(BIN)/python -m coverage run -m pytest -m "slow or not slow"
	$(BIN)/python -m coverage combine --quiet
	(printf '# Coverage of lines and branches\n\nMade by `make coverage`.\n\n'; $(BIN)/python -m coverage report --format markdown) > benchmarks/results/coverage.md
	$(BIN)/python -m coverage report

mutants: .venv/installed-dev ## spoil the tokenizer, loader, sampler and checkpoints in hundreds of places, and list the changes that no test notices (hours)
	$(BIN)/python tests/mutants.py runs/mutants

bench: .venv/installed-dev ## every benchmark that is done within an hour, side by side with stock fastai
	for o in data generate memory train curves; do $(BIN)/python benchmarks/$$o.py || exit 1; done

venv: .venv/installed-dev ## the development environment

export: .venv/installed-dev ## notebooks -> package, cleaned, and the README
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean
	$(MAKE) readme

readme: .venv/installed-dev ## README.md from nbs/index.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --to markdown --output-dir . --output README nbs/index.ipynb

walkthrough: .venv/installed-dev ## run the walkthrough and store its outputs
	$(BIN)/jupyter nbconvert --log-level WARN --to notebook --execute --inplace nbs/tutorials/ai_generated_movie_reviews.ipynb
	$(BIN)/nbdev_clean --fname nbs/tutorials/ai_generated_movie_reviews.ipynb

dist: .venv/installed-dev ## wheel and sdist
	$(BIN)/python -m build

# What pip would install, as its report tells it: a line for each file but torch's, whose builds differ.
LOCK := import json, sys; \
  files = [(o["metadata"], o["download_info"].get("archive_info")) for o in json.load(sys.stdin)["install"]]; \
  print(*sorted("{}=={} --hash=sha256:{}".format(m["name"].lower().replace("_", "-"), m["version"], a["hashes"]["sha256"]) \
                for m,a in files if a and m["name"] != "torch"), sep="\n")

lock: .venv/bin/pip ## requirements.lock: what make demo installs on Linux (x86-64, Python 3.11), with hashes
	$(PIP) --dry-run --ignore-installed --report .venv/report.json --editable .
	echo '# Made by make lock, for Linux on x86-64 and Python 3.11: all that make demo installs but torch. CONTRIBUTING.md tells how to use it.' > requirements.lock
	$(BIN)/python -c '$(LOCK)' < .venv/report.json >> requirements.lock

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /: /'

clean: ## remove what was built, the environment too
	rm -rf .venv build dist *.egg-info

.venv/bin/pip:
	$(PYTHON) -m venv .venv

# The first install is minutes long: say so, and do it once.
.venv/installed: .venv/bin/pip $(FILES)
	@echo 'Installing into .venv (a minute or two) ...'
	$(PIP) --editable .
	touch $@

.venv/installed-dev: .venv/bin/pip $(FILES)
	@echo 'Installing into .venv (two or three minutes) ...'
	$(PIP) --editable '.[dev]'
	touch $@ .venv/installed
