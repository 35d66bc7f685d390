# shellcheck shell=bash
# The two binaries: prebuilt ones where they are, else built from this source tree.

CONTROLLER_BIN=
AGENT_BIN=

binary_runs() { [[ -x $1 ]] && "$1" --version >/dev/null 2>&1; }

binaries_prebuilt() {
  binary_runs "$BIN_DIR/automator67-controller" && binary_runs "$BIN_DIR/automator67-agent"
}

# There are some, but for another processor or a newer C library.
binaries_unusable() { [[ -e $BIN_DIR/automator67-controller ]] && ! binaries_prebuilt; }

step_binaries() {
  local target lacking=
  step_begin "Binaries" "$LOG_DIR/build.log"
  if binaries_prebuilt; then
    binaries_take "$BIN_DIR"
    step_done "prebuilt: $("$CONTROLLER_BIN" --version)"
    return
  fi
  target=${CARGO_TARGET_DIR:-$repo/target}
  if [[ ! -w $repo ]]; then target=$DATA_DIR/target; fi
  step_progress "building, about 7 minutes on two cores"
  if [[ -w $repo ]] && command -v node >/dev/null && command -v npm >/dev/null; then
    run_logged env -C "$repo" CARGO_TARGET_DIR="$target" cargo xtask ui || fail "The web UI could not be built."
  else
    lacking=", without the web UI: node and npm are not here"
  fi
  run_logged env -C "$repo" CARGO_TARGET_DIR="$target" \
    cargo build --release --locked -p controller -p node-agent || fail "The build failed."
  binaries_take "$target/release"
  step_done "built: $("$CONTROLLER_BIN" --version)$lacking"
}

binaries_take() {
  CONTROLLER_BIN=$1/automator67-controller
  AGENT_BIN=$1/automator67-agent
}
