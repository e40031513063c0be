.PHONY: format check test test-full test-attacks test-system bench

format:
	uv run ruff format .
	uv run ruff check --fix .

check:
	uv run ruff format --check .
	uv run ruff check .
	uv run mypy
	uv run lint-imports

test:
	uv run pytest -n 2

test-full:
	uv run pytest -n 2 -m "not system"

test-attacks:
	BNN_ATTACKS=full uv run pytest -m attack --timeout 7200

test-system:
	uv run pytest -m system

bench:
	for script in $(filter-out %/figures.py, $(wildcard benchmarks/*.py)); do uv run python $$script --quick || exit 1; done
