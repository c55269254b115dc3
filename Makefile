# make        opens the app           make demo   a spoken call between two peers, with its report
# make test   all checks and tests    make help   the rest
#
# Each target installs what it needs on Debian and Ubuntu (see .ci/setup) and never waits for input.

CARGO ?= cargo
# The caller's target directory if there is one: checkouts can then share it.
TARGET := $(or $(CARGO_TARGET_DIR),target)
HEADLESS := --no-default-features --features voice

.PHONY: run demo test lint unit bench bench-audio fuzz deny clean help

run:
	@.ci/setup window
	$(CARGO) run --release -p ahoy

demo:
	@.ci/setup build
	@$(CARGO) build --profile demo -p ahoy $(HEADLESS)
	@$(TARGET)/demo/ahoy demo $(DEMO_FLAGS)

test:
	@.ci/setup test
	@$(MAKE) --no-print-directory lint unit

# The bare supernode is a build of its own: nothing else shows that it stands without sound and window.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --features ahoy-tests/devices -- -D warnings
	$(CARGO) clippy --locked -p ahoy --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

fuzz:
	@for target in $$(ls tests/fuzz/fuzz_targets | sed "s/.rs$$//"); do \
		(cd tests && cargo +nightly fuzz run $$target -- -max_total_time=$(or $(FUZZ_SECONDS),60)) || exit 1; done

# The binary first: some tests run it as separate processes, and look for it beside themselves.
unit:
	$(CARGO) build --locked --workspace --features ahoy-tests/devices
	$(CARGO) test --locked --workspace --features ahoy-tests/devices

bench:
	@.ci/setup bench
	$(CARGO) bench -p ahoy-tests --features rivals
	$(CARGO) bench -p ahoy-media

# Perceptual scores, by the tools of others.
bench-audio:
	@.ci/setup bench
	@$(CARGO) build --profile demo -p ahoy $(HEADLESS)
	@test -x $(TARGET)/bench-audio/bin/python || python3 -m venv $(TARGET)/bench-audio
	@$(TARGET)/bench-audio/bin/python -m pip install --quiet pesq numpy scipy soundfile
	@$(TARGET)/bench-audio/bin/python tests/bench_audio.py $(TARGET)/demo/ahoy

deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources

help:
	@sed -n 's/^# \(.*\)/\1/p' Makefile | head -n 4
	@echo "make lint, make unit   the two halves of make test"
	@echo "make bench             speeds, beside quinn with TLS in the same run"
	@echo "make bench-audio       PESQ of real calls"
	@echo "make deny              licences, sources and banned crates of the dependencies"
