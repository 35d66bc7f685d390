# shellcheck shell=bash
# The Rust workspace: builds, checks and tests. Tests start what they need
# themselves: private PostgreSQL clusters, engines, and the testbed.

# The web UI first, since the controller takes it in.
stage_build() {
  cargo xtask ui
  cargo build --locked --workspace
}

stage_check() { cargo xtask check; }

stage_tests() {
  trap testbeds_down EXIT
  testbeds_down
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace
  else
    local failed=0
    timeout 1500 cargo test --locked --workspace --exclude system-tests --no-fail-fast || failed=1
    # They share one testbed.
    timeout 1500 cargo test --locked -p system-tests --no-fail-fast -- --test-threads=1 || failed=1
    return "$failed"
  fi
}
