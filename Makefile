# make run     the whole exchange in the foreground, under supervisord; Ctrl-C stops it
# make test    check, then every test, two files at a time
# make check   ruff, strict mypy, and that imports point one way
# make bench   the benchmarks, each figure beside its physical limit; docs/performance.md has those of a whole run
#
# Each sets up what it needs in .venv first. That takes Python 3.11 or later and, once, a way to install packages.

.PHONY: run test check bench environment
.NOTPARALLEL:

run: environment
	@exec .venv/bin/python -m daemons

test: check
	@exec .venv/bin/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: environment
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check --quiet .
	@.venv/bin/python -m mypy
	@exec .venv/bin/python -m pytest -q tests/unit/test_imports.py

bench: environment
	@exec .venv/bin/python -m benchmarks

environment:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			exec "$$python" .ci/environment.py; \
		fi; \
	done; \
	echo "There is no Python 3.11 or later here. Install one, or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1
