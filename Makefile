# make        opens the app           make demo   a spoken call between two peers, with its report
# make test   all checks and tests    make help   the rest
#
# Each target installs what it needs on Debian and Ubuntu (see .ci/setup) and never waits for input.

CARGO ?= cargo
# The caller's target directory if there is one: checkouts can then share it.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Cargo's subcommands that are not part of a toolchain are built once, beside everything else, and found by their path.
# Without optimisation: they work for seconds and take minutes to compile with it.
TOOLS := $(abspath $(TARGET))/tools
TOOL = test -x $(TOOLS)/bin/$(1) || $(CARGO) install --quiet --locked --debug --root $(TOOLS) --target-dir $(TOOLS)/target
HEADLESS := --no-default-features --features voice
# The fuzz targets are checked by `make lint`; each would be linked with everything here.
TESTED := --workspace --exclude ahoy-fuzz --features ahoy-tests/devices,ahoy-tests/lab,ahoy-tests/video

.PHONY: run demo test test-threats test-points lint unit matrix deps bench bench-relay bench-call bench-capacity bench-window bench-audio bench-calls bench-loss bench-room soak-audio baselines network fuzz fuzz-long deb deb-test shots help

run:
	@.ci/setup window
	$(CARGO) run --release -p ahoy

demo:
	@.ci/setup build
	@$(CARGO) build --profile demo -p ahoy $(HEADLESS)
	@$(TARGET)/demo/ahoy demo $(DEMO_FLAGS)

test:
	@.ci/setup test
	$(CARGO) fmt --all --check
	@$(MAKE) --no-print-directory unit

# Clippy as the compiler of our own crates, as `cargo clippy` itself calls it, but in the build that the tests need
# anyway: to check three hundred dependencies once more takes two cores nine minutes.
LINTED := RUSTC_WORKSPACE_WRAPPER=clippy-driver CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__

# What `make test` leaves: benches, fuzz targets, the documentation, and the bare supernode, a build of its own that
# shows that it stands without sound and window.
lint:
	@.ci/setup test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --features ahoy-tests/devices,ahoy-tests/lab,ahoy-tests/video -- -D warnings
	$(CARGO) clippy --locked -p ahoy --no-default-features -- -D warnings
	$(CARGO) clippy --locked -p ahoy $(HEADLESS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

# The program comes with them, since app/tests needs it. To build it before, alone, would compile our crates twice:
# what only tests depend on switches features on in what the program depends on.
unit:
	$(LINTED) $(CARGO) test --no-fail-fast --locked $(TESTED)

# Every pair of NATs, each way round, by an optimised binary; then the odds of guessing ports. Minutes. Root, or user
# namespaces.
matrix:
	@.ci/setup test
	$(CARGO) build --locked --profile demo -p ahoy $(HEADLESS)
	CI=true AHOY_BIN=$(abspath $(TARGET))/demo/ahoy $(CARGO) test --locked $(TESTED) --test nat_matrix -- every guessing

# The threat model: promise, test, figure, from the table in tests/threats.txt. Fails with any of its tests, and when one
# tells no figure.
THREATS := --lib --test program --test threats \
	$(shell grep -o '| [a-z]*/tests/[a-z_]*\.rs' tests/threats.txt | sort -u | sed 's|.*tests/\(.*\)\.rs|--test \1|')
test-threats:
	@.ci/setup test
	@mkdir -p $(TARGET)
	$(LINTED) $(CARGO) test --locked $(TESTED) $(THREATS) --no-run --message-format=json-render-diagnostics \
		> $(TARGET)/threats.json
	@AHOY_TEST_BINARIES=$(abspath $(TARGET))/threats.json $(LINTED) $(CARGO) test --quiet --locked $(TESTED) \
		--test threats -- --ignored --nocapture

# The 14 points of the desktop app: promise and test, from the table in tests/points.txt, and a run of all of them.
POINTS := --lib --test points \
	$(shell grep -o '| tests/tests/[a-z_]*\.rs' tests/points.txt | sort -u | sed 's|.*tests/\(.*\)\.rs|--test \1|')
POINT_TESTS := $(shell sed -n 's/^[0-9].*\.rs | //p' tests/points.txt | sort -u)
test-points:
	@.ci/setup test
	$(LINTED) $(CARGO) test --no-fail-fast --locked $(TESTED) $(POINTS) --test program -- $(POINT_TESTS)
	@$(LINTED) $(CARGO) test --quiet --locked $(TESTED) --test points -- --ignored --nocapture

# What `make test` has no time for: it compiles the tools that look.
deps:
	@.ci/setup build
	@$(call TOOL,cargo-deny) --no-default-features cargo-deny@0.20.2
	@$(call TOOL,cargo-machete) cargo-machete@0.9.2
	$(TOOLS)/bin/cargo-deny --all-features --locked check bans licenses sources
	$(TOOLS)/bin/cargo-machete .

# libFuzzer on each target in turn, without the sanitizers that need another toolchain: what they find in safe Rust,
# the checks of a development build find too. make fuzz FUZZ_TARGETS=turn FUZZ_SECONDS=3600 for one that is suspected.
# Finds go to tests/fuzz/artifacts, and into tests/fuzz/corpus once they are mended.
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))
fuzz:
	@.ci/setup build
	@$(call TOOL,cargo-fuzz) cargo-fuzz@0.13.2
	@for target in $(FUZZ_TARGETS); do \
		$(TOOLS)/bin/cargo-fuzz run --fuzz-dir tests/fuzz --dev --sanitizer none --target-dir $(TOOLS)/fuzz \
			$$target -- -max_total_time=$(or $(FUZZ_SECONDS),60) || exit 1; done

# The same bodies without libFuzzer, by mutation of the corpus alone: FUZZ_EXECUTIONS (a hundred million) in all, with a
# count for each.
fuzz-long:
	@.ci/setup test
	$(CARGO) test --locked $(TESTED) --test fuzz_corpus -- --ignored --nocapture a_hundred_million

# Networks that are too large for `make test`: floods from 256 networks, with and without defences, and 10 000 supernodes.
# Half an hour of one core and four gigabytes. What the tests use is compiled already, and optimised where it counts: only our own
# three crates are compiled once more, and not the whole program.
SWIFT := $(foreach crate,transport nat tests,--config profile.dev.package.ahoy-$(crate).opt-level=3)
network:
	@.ci/setup test
	$(CARGO) test --locked $(TESTED) $(SWIFT) --test network -- --ignored --nocapture --test-threads 1

# What simulated calls come to, for tests/tests/sim_baselines.rs to compare with.
baselines:
	AHOY_RENEW_BASELINES=1 $(CARGO) test --locked -p ahoy-tests --test sim_baselines
	@git diff --stat -- tests/baselines

bench:
	@.ci/setup bench
	$(CARGO) bench -p ahoy-tests --features rivals --bench handshake
	$(CARGO) bench -p ahoy-media

# CPU per relayed packet beside coturn, both ends of each pair on the same relay.
bench-relay:
	@.ci/setup bench
	$(CARGO) bench --locked -p ahoy-nat --bench relay

# Three processes that talk, and what the system says they cost: as optimised as what people run.
bench-call:
	@.ci/setup build
	@$(CARGO) build --locked --release -p ahoy $(HEADLESS)
	@AHOY_BIN=$(abspath $(TARGET))/release/ahoy $(CARGO) bench --profile demo -p ahoy-tests --bench call

# Ten thousand devices (AHOY_DEVICES) at one supernode: memory of each, and how fast an envelope gets through.
bench-capacity:
	@.ci/setup test
	@$(CARGO) build --locked --release -p ahoy --no-default-features
	@AHOY_BIN=$(abspath $(TARGET))/release/ahoy $(CARGO) test --locked $(TESTED) --test capacity -- --ignored --nocapture

# What the window's thread takes per frame of a call with 720p both ways; on a machine without a graphics card the
# processor draws as well, and part of that counts.
bench-window:
	@.ci/setup test
	@$(CARGO) build --profile demo -p ahoy
	@AHOY_BIN=$(abspath $(TARGET))/demo/ahoy $(CARGO) test --locked $(TESTED) --test window -- --ignored --nocapture --skip shots

# Pictures of every screen in both themes, sharp and usual, small and large, for people to look at: window-shots in the
# target directory. AHOY_SHOTS=dark/1x-900x600 for some of them.
shots:
	@.ci/setup test
	@$(CARGO) build --locked --profile demo -p ahoy
	@AHOY_BIN=$(abspath $(TARGET))/demo/ahoy $(CARGO) test --locked $(TESTED) --test window -- --ignored --nocapture shots

# Perceptual scores, by the tools of others.
bench-audio:
	@.ci/setup bench
	@$(CARGO) build --profile demo -p ahoy $(HEADLESS)
	@test -x $(TARGET)/bench-audio/bin/python || python3 -m venv $(TARGET)/bench-audio
	@$(TARGET)/bench-audio/bin/python -m pip install --quiet pesq numpy scipy soundfile
	@$(TARGET)/bench-audio/bin/python -m pip install --quiet 'visqol-python[lattice]' || echo 'without ViSQOL'
	@$(TARGET)/bench-audio/bin/python tests/bench_audio.py $(TARGET)/demo/ahoy

# Speech in whole calls on bad lines, in virtual time. SPEECH: more files of it, at 48 kHz.
bench-calls:
	@.ci/setup bench
	@$(CARGO) build --profile demo -p ahoy $(HEADLESS)
	@test -x $(TARGET)/bench-audio/bin/python || python3 -m venv $(TARGET)/bench-audio
	@$(TARGET)/bench-audio/bin/python -m pip install --quiet pesq numpy scipy soundfile
	@$(TARGET)/bench-audio/bin/python tests/bench_calls.py $(TARGET)/demo/ahoy $(or $(SPEECH),assets/ahoy.wav)

# Speech on bad lines in virtual time: everything that can be done about loss, and what is chosen.
bench-loss:
	@.ci/setup bench
	@$(CARGO) build --profile demo -p ahoy-media --example loop
	@test -x $(TARGET)/bench-audio/bin/python || python3 -m venv $(TARGET)/bench-audio
	@$(TARGET)/bench-audio/bin/python -m pip install --quiet pesq numpy scipy soundfile
	@$(TARGET)/bench-audio/bin/python tests/bench_loss.py $(TARGET)/demo/examples/loop assets/ahoy.wav \
		curves=assets/loss.svg

# Echo and near speech in simulated rooms, by our chain and by WebRTC's.
bench-room:
	@.ci/setup bench
	@$(CARGO) build --profile demo -p ahoy-media --example room
	@test -x $(TARGET)/bench-audio/bin/python || python3 -m venv $(TARGET)/bench-audio
	@$(TARGET)/bench-audio/bin/python -m pip install --quiet pesq numpy scipy soundfile
	@$(TARGET)/bench-audio/bin/python tests/bench_room.py $(TARGET)/demo/examples/room assets/ahoy.wav assets/ahoy.wav

# Ten minutes (SOAK_SECONDS) through the callbacks of a private sound server, beside the same call from file to file:
# drop-outs, and what devices add to the way from mouth to ear. Wants an idle machine.
soak-audio:
	@.ci/setup test
	@$(CARGO) build --locked --release -p ahoy --no-default-features --features voice,devices
	@AHOY_BIN=$(abspath $(TARGET))/release/ahoy AHOY_SOAK_SECONDS=$(or $(SOAK_SECONDS),600) \
		$(CARGO) bench --profile demo -p ahoy-tests --features devices --bench soak_audio

# Packages for Debian and Ubuntu, in $(DEBS): the window, and the bare supernode with its service.
DEBS ?= $(TARGET)/deb
DEB_PROFILE ?= release
DEB_BUILT = $(TARGET)/$(DEB_PROFILE:dev=debug)/ahoy
deb:
	@.ci/setup deb
	@rm -rf $(DEBS) && mkdir -p $(DEBS)
	$(CARGO) build --locked --profile $(DEB_PROFILE) -p ahoy --no-default-features
	@cp $(DEB_BUILT) $(DEBS)/bare
	$(CARGO) build --locked --profile $(DEB_PROFILE) -p ahoy
	@.ci/deb $(DEB_BUILT) $(DEBS)/bare $(DEBS)
	@rm $(DEBS)/bare

# What `make deb` made, installed, used and removed on a layer over this system, which is then thrown away. Root.
deb-test:
	@.ci/setup deb
	@.ci/deb-test $(DEBS)

help:
	@sed -n 's/^# \(.*\)/\1/p' Makefile | head -n 4
	@echo "make lint              what make test leaves to lint: benches, fuzz targets, bare supernode, docs"
	@echo "make test-threats      the threat model: promise, test, figure"
	@echo "make matrix            every pair of NATs on real kernels"
	@echo "make bench             speeds, beside quinn with TLS in the same run"
	@echo "make bench-relay       CPU per relayed packet, beside coturn in the same run"
	@echo "make bench-call        processor time and memory of a call's three processes"
	@echo "make bench-capacity    memory and delay with ten thousand devices at one supernode"
	@echo "make bench-window      what drawing takes in a call with pictures"
	@echo "make network           attacks on a thousand supernodes, and ten thousand of them"
	@echo "make baselines         renew what simulated calls are compared with"
	@echo "make bench-audio       PESQ of real calls"
	@echo "make bench-calls       PESQ of whole simulated calls on lossy lines"
	@echo "make bench-loss        PESQ on lossy lines, with each way to repair loss"
	@echo "make bench-room        echo and near speech in rooms, beside WebRTC's canceller"
	@echo "make soak-audio        ten minutes through sound devices: drop-outs and delay"
	@echo "make shots             pictures of every screen of the window"
	@echo "make deb               packages for Debian and Ubuntu; make deb-test installs, uses and removes them"
	@echo "make deps              licences, sources, bans and use of the dependencies"
	@echo "make fuzz              each fuzz target for FUZZ_SECONDS (60)"
	@echo "make fuzz-long         a hundred million mutated inputs in all, with counts"
