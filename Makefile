# The project's commands; `make help` lists them. Each makes .venv and installs what it needs by itself.

PYTHON ?= python3#   makes .venv; 3.11 or newer
COUNT ?= 3000#       training galaxies of a synthetic demo
TEST_COUNT ?= 500#   its test galaxies
MEMBERS ?= 2#        networks in the demo's ensemble
EPOCHS ?=#           passes over the samples; empty: the recipe's own number

# A demo on DATA, a folder with the Kaggle download, has an output folder of its own; for other data name another OUT.
OUT ?= $(if $(DATA),demo-kaggle,demo)
SYNTHETIC = $(if $(DATA),,$(OUT)/data/synthetic_test_truth.csv)
BIN = .venv/bin
READY = .venv/.installed#   what a user needs
TOOLS = .venv/.tools#       and what a developer needs

.PHONY: help demo test check coverage format clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

KEPT := $(wildcard $(OUT)/shards/manifest.json)

demo: $(READY) $(OUT)/shards/manifest.json  ## galaxies to a trained ensemble, a report and a submission.csv; DATA=folder: Kaggle's
	@test -z '$(KEPT)' || echo >&2 'Using $(OUT)/shards of an earlier demo: for others remove $(OUT) or name another OUT.'
	$(BIN)/python train.py $(OUT)/shards --recipe quick --members $(MEMBERS) \
	    --out $(OUT)/run $(if $(EPOCHS),--epochs $(EPOCHS)) --resume
	$(BIN)/python evaluate.py $(OUT)/run $(OUT)/shards --views 1 --cams 2 --points 300 --embedding pca --out $(OUT)/report
	$(BIN)/python predict.py $(OUT)/run $(OUT)/shards --views 4 --out $(OUT)/submission.csv \
	    $(addprefix --truth ,$(SYNTHETIC))
	@echo 'Look at $(OUT)/report/report.html: scores, curves and galaxies that were held out. Next, after `. .venv/bin/activate`:'
	@echo '  python train.py --list'
	@echo '  python train.py $(OUT)/shards --recipe plain'
	@echo '  python evaluate.py $(OUT)/run runs/plain $(OUT)/shards'

test: $(TOOLS)  ## run the core of the tests: all but those that start processes or train
	$(BIN)/python -m pytest -m 'not slow'

check: $(TOOLS)  ## all a change must pass: format, lint, types, Dockerfile, shell, every test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck docker/entry docker/prove .ci/run deploy/slurm/*.sbatch
	$(BIN)/python -m pytest

coverage: $(TOOLS)  ## run the core of the tests and say which lines it leaves out
	$(BIN)/python -m pytest -m 'not slow' --cov

format: $(TOOLS)  ## format the code and apply ruff's fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove caches and build leftovers; .venv, demo output and runs stay
	rm -rf build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# The tables of votes are written after the images, the manifest after the shards: each stands for its whole folder.
$(OUT)/data/synthetic_test_truth.csv: | $(READY)
	$(BIN)/shard_tool synth $(OUT)/data --count $(COUNT) --test $(TEST_COUNT) --seed 1 --overwrite

$(OUT)/shards/manifest.json: $(SYNTHETIC) | $(READY)
	$(BIN)/shard_tool pack "$(or $(DATA),$(OUT)/data)" $(OUT)/shards --resume

$(READY): setup.cfg pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo >&2 'Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ...'; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[report]'
	@touch $@

$(TOOLS): $(READY)
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@
