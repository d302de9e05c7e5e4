# Flatnet: `make demo` shows it working, `make test` runs every test. Both set up what they need.
#
# Programs are linked statically: a CNI plugin starts faster so, and runs on any node. `--target` keeps
# the flag away from build scripts and procedural macros, which cannot be static. They are copied, not linked, to
# their place: a file written in one go lies in the page cache in larger pieces, and starts faster for it.

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
UPPER := $(shell echo $(HOST) | tr a-z- A-Z_)
export CARGO_BUILD_TARGET := $(HOST)
export CARGO_TARGET_$(UPPER)_RUSTFLAGS := -C target-feature=+crt-static

BUILT := target/$(HOST)/release
PROGRAMS := flatnet flatnetd flatpod
BUILD_PACKAGES := gcc libc6-dev protobuf-compiler libprotobuf-dev
TEST_PACKAGES := iproute2 iputils-ping nftables procps strace util-linux containerd runc busybox-static systemd conntrack etcd-server \
	etcd-client openssl containernetworking-plugins iptables
BENCH_PACKAGES := containernetworking-plugins netavark iptables iproute2 nftables containerd runc \
	busybox-static

# What pods do on one node has nothing to do with whose plugins connect them: run again with the reference plugins.
ONE_NODE := pod_attach pod_cli pod_config pod_crash pod_debug pod_describe pod_fields pod_isolation pod_lifecycle pod_network pod_probes pod_seccomp

# $(call apt,PACKAGES): installs those that are missing.
apt = missing=""; for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' \
	|| missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

.PHONY: help build demo test bench bench-agent lint setup-build setup-test clean

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup-build:
	@$(call apt,$(BUILD_PACKAGES))

setup-test: setup-build
	@$(call apt,$(TEST_PACKAGES))

build: setup-build ## build the programs into target/release
	cargo build --release --locked --bins
	@mkdir -p target/release
	@for p in $(PROGRAMS); do install -m 755 $(BUILT)/$$p target/release/$$p; done

demo: build ## show pods on three nodes reaching each other
	@target/release/flatpod demo

test: setup-test build ## run every test (as root: they make network namespaces)
	cargo test --release --locked --workspace --no-fail-fast
	cargo test --release --locked -p flatpod --features registry --no-fail-fast --bins --test pod_registry
	FLATPOD_LAB_NETWORK=reference cargo test --release --locked -p flatpod --no-fail-fast $(addprefix --test ,$(ONE_NODE))

bench: build ## measure against the reference plugins and bridges
	@$(call apt,$(BENCH_PACKAGES))
	cargo build --release --locked -p flatnet-bench
	@mkdir -p target/bench
	@for c in floor launch; do gcc -O2 -Wall -Wextra -static -s -o target/bench/$$c.o bench/c/$$c.c \
	&& install -m 755 target/bench/$$c.o target/bench/$$c; done
	$(BUILT)/cni-bench pods --bin-dir target/release --c-dir target/bench --svg target/bench/pods.svg
	nice -n -20 $(BUILT)/cni-bench runtime --bin-dir target/release --svg target/bench/runtime.svg
	$(BUILT)/cni-bench apply --bin-dir target/release --svg target/bench/apply.svg
	nice -n -20 $(BUILT)/cni-bench path --bin-dir target/release --svg target/bench/path.svg

bench-agent: build ## measure the agent in clusters of many nodes
	@$(call apt,iproute2 etcd-server)
	cargo build --release --locked -p flatnet-bench
	@mkdir -p target/bench
	$(BUILT)/cni-bench agent --bin-dir target/release --svg target/bench/agent.svg

lint: setup-test ## check formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo clippy --release --locked -p flatpod --features registry --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --document-private-items --workspace

clean: ## remove everything built
	cargo clean
