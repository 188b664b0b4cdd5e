# The one entry. `make help` lists what there is.

CARGO ?= cargo
PYTHON ?= python3
NPM ?= npm
# Tools that are fetched, not built, live here; nothing of it is committed.
TOOLS := .cache/tools
BUF := $(TOOLS)/node_modules/.bin/buf

.DEFAULT_GOAL := help
.PHONY: help demo run release test check bench fmt settings buf image clean

help: ## list what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: ## from nothing to a verified context pack (first build: 10 to 20 minutes on two cores, 3 GB)
	$(CARGO) build --release --locked -p commonplace-com
	$(COM) demo --repo .

run: ## serve on port 8083 over ~/.local/share/commonplace
	$(CARGO) build --release --locked -p commonplace-com
	$(COM) serve

release: ## the program to ship, in target/dist: linked across crates, with the paths of this machine mapped away
	RUSTFLAGS="--remap-path-prefix=$(CURDIR)=/commonplace --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo" \
	$(CARGO) build --profile dist --locked -p commonplace-com

test: ## every test: real model, real processes, a real Python client (a build of its own: some 45 minutes on two cores the first time)
	$(CARGO) test --workspace --locked --tests --no-run
	$(TARGET)/debug/com model pull
	$(CARGO) test --workspace --tests --quiet
	$(PYTHON) tests/python/run.py

check: ## formatting, lints, documentation, licences, contracts (needs npm)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --log-level error check; \
	else echo "SKIPPED: cargo-deny is not installed (cargo install cargo-deny)"; fi
	$(MAKE) --no-print-directory buf

buf: $(BUF) ## lint the contracts and compare them with the committed image
	cd proto && ../$(BUF) lint
	cd proto && ../$(BUF) breaking --against image.binpb

image: $(BUF) ## accept the contracts as they are now
	cd proto && ../$(BUF) build -o image.binpb

$(BUF):
	@mkdir -p $(TOOLS)
	$(NPM) install --silent --no-fund --no-audit --prefix $(TOOLS) @bufbuild/buf@1.75.0

bench: ## speed, memory and retrieval quality, as a table and as JSON in target/bench
	$(CARGO) build --release --quiet -p commonplace-com -p commonplace-bench
	$(TARGET)/release/commonplace-bench

fmt: ## format everything
	$(CARGO) fmt --all

settings: ## write docs/settings.md from the settings' comments
	UPDATE_DOCS=1 $(CARGO) test --workspace --quiet --test settings

clean: ## remove what was built and fetched here
	$(CARGO) clean
	rm -rf .cache .commonplace-demo demo.pack.json

TARGET = $(or $(CARGO_TARGET_DIR),target)
COM = $(TARGET)/release/com
