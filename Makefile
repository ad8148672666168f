# Needs git, make and Python 3.11 or newer with pip; everything else is installed into .venv.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
# The release that llama-index-llms-dashscope pins; tests compare its rankings with ours.
OLD_SDK := .venv/dashscope-1.22.2

PYTEST := QWEN_RERANK_OLD_SDK=$(CURDIR)/$(OLD_SDK) $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal
# Of what pip says only how far it is, and whether it came to its end.
TOLD := --progress-bar off | awk ' \
	/^Collecting / && ++n % 20 == 0 { print "  " n " packages found"; fflush() } \
	/^Installing collected / { print "  installing them"; fflush() } \
	/^Successfully installed / { done = 1 } \
	END { exit !done }'
VENV = test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/it"; exit 1; }; \
	$(PYTHON) -m venv .venv

.PHONY: help demo test again check nox docs look pages failures faults faults-all limits docstrings picture live notebooks ray servers clients soak bench mutants format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: $(or $(wildcard .venv/installed),.venv/installed-demo)  ## rerank the Python language reference through both frameworks
	$(BIN)/qwen-rerank demo

test: .venv/installed  ## run the tests on all cores, with branch coverage
	@trap 'exit 130' INT; $(PYTEST) --cov --cov-report=term && \
		echo "Passed. Next is make check: lint, types, and who may import whom." || \
		{ echo "Failed, see above. To run again only the tests that failed: make again"; exit 1; }

again: .venv/installed  ## run only the tests that failed in the last make test
	$(PYTEST) --last-failed --last-failed-no-failures=none

check: .venv/installed  ## lint, types, import contracts, and whether it installs beside its neighbours
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --project tests/typing --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/pip install --quiet --dry-run --ignore-installed '.[all]' \
		llama-index-llms-dashscope llama-index-embeddings-dashscope langchain-community langchain-qwq

nox: .venv/installed  ## all of it on every Python, with either framework, none, and the oldest releases
	$(BIN)/nox

docs: .venv/installed-docs  ## build the documentation site into .site, every warning an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "To read it, with search: $(BIN)/python -m http.server --directory .site"

pages: .venv/installed  ## follow every page, notebook and example in an environment of its own install line
	$(BIN)/python scripts/follow_pages.py

failures: .venv/installed  ## write what every error says into docs/failures.md
	$(BIN)/python tests/docs/write_failures.py

look: .venv/installed-look docs  ## take pictures of the site, phone and desk, light and dark, into .looks
	$(BIN)/python scripts/look.py

limits: .venv/installed  ## write docs/limits.md from the table in qwen_rerank/_models.py
	$(BIN)/python tests/docs/write_limits.py

docstrings: .venv/installed  ## write what each option does into the docstrings of the rerankers
	$(BIN)/python tests/docs/write_docstrings.py

picture: .venv/installed  ## draw docs/ranking.svg and docs/thresholds.svg, of the demo's questions
	$(BIN)/python tests/docs/draw_ranking.py
	$(BIN)/python tests/docs/write_thresholds.py

faults: .venv/installed  ## write docs/faults.md from the fault matrix
	$(BIN)/python tests/faults/write_docs.py

faults-all: .venv/installed  ## run every fault through every way in, 1,400 tests more than make test has
	$(PYTEST) tests/faults -m faults_all

notebooks: .venv/installed  ## run the notebooks and store what they show
	$(BIN)/python tests/test_notebooks.py

live: .venv/installed  ## ask the real service with your key; a few cents, see tests/live/test_live.py
	$(BIN)/python -m pytest tests/live -m live

ray: .venv/installed-ray  ## run the Ray recipe on two local workers; installs 550 MB
	$(BIN)/python -m pytest tests/test_ray.py -m ray

servers: .venv/installed-servers  ## run vLLM, Infinity and Xinference here and write what was seen; 5 GB
	$(BIN)/python tests/servers/run.py

clients: .venv/installed  ## ask the emulator through other clients and write who can, in docs/offline.md
	$(BIN)/python scripts/clients.py

soak: .venv/installed-bench  ## 50,000 calls against a failing server; writes docs/soak.md
	$(BIN)/python -m benchmarks.soak --output docs

bench: .venv/installed-bench  ## measure against peers and write benchmarks/README.md
	$(BIN)/python -m benchmarks

mutants: .venv/installed-mutants  ## change four modules in 1,600 ways, and see whether tests fail; seven minutes
	$(BIN)/python scripts/mutants.py

format: .venv/installed  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove what these commands made
	rm -rf .venv .nox dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache \
		.looks .ruff_cache .servers .site mutants

.venv/installed-bench: .venv/installed
	$(BIN)/pip install --quiet --group bench
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet --group docs
	touch $@

.venv/installed-look: .venv/installed
	$(BIN)/pip install --quiet --group look
	touch $@

.venv/installed-mutants: .venv/installed
	$(BIN)/pip install --quiet --group mutants
	touch $@

.venv/installed-ray: .venv/installed
	$(BIN)/pip install --quiet --group ray
	touch $@

.venv/installed-servers: .venv/installed
	$(BIN)/pip install --quiet --group servers
	touch $@

# The marks are written last, so an interrupted install is made again. Python compiles what it
# imports by itself; pip would compile all that there is, for half a minute.
.venv/installed: pyproject.toml
	@echo "Into .venv: both frameworks, and all that tests, checks and notebooks take; 1.2 GB, some minutes"
	@$(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/pip install --no-compile --editable '.[all]' --group dev $(TOLD)
	$(BIN)/pip install --quiet --no-compile --no-deps --target $(OLD_SDK) --upgrade dashscope==1.22.2
	touch $@

# What the demo runs with and nothing else.
.venv/installed-demo: pyproject.toml
	@echo "Into .venv: both frameworks, and what the demo measures with; 390 MB, about a minute"
	@$(VENV)
	@$(BIN)/pip install --no-compile --editable '.[demo]' $(TOLD)
	touch $@
