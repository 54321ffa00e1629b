# One gate: what CI runs and what a contributor runs before a commit.
UV_RUN = uv run --group dev

.PHONY: check format lint types floors system test

check: lint types floors test

format:
	$(UV_RUN) ruff format .
	$(UV_RUN) ruff check --fix .

lint:
	$(UV_RUN) ruff format --check .
	$(UV_RUN) ruff check .

types:
	$(UV_RUN) mypy

floors:
	$(UV_RUN) lint-imports --no-cache

system:
	.ci/system

test: system
	OMP_NUM_THREADS=1 FUSION_NAS_BROWSER=required $(UV_RUN) pytest -n 2 --dist worksteal
