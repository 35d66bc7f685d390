# shellcheck shell=bash
# The Rust workspace: builds, checks and tests. Tests start private PostgreSQL
# clusters themselves, and the system tests the testbed.

stage_build() { cargo build --locked --workspace; }

stage_check() { cargo xtask check; }

stage_tests() {
  trap 'engine_down; testbeds_down' EXIT
  testbeds_down
  engine_up
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace
  else
    timeout 1500 cargo test --locked --workspace --exclude system-tests
    # They share one testbed.
    timeout 1500 cargo test --locked -p system-tests -- --test-threads=1
  fi
}
