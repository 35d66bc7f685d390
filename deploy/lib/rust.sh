# shellcheck shell=bash
# Finds a Rust toolchain that is new enough.

RUST_WANTED=1.95

# version_at_least HAVE WANTED
version_at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }

rust_version() { rustc --version 2>/dev/null | awk '{ print $2 }'; }

rust_fits() {
  local version
  command -v cargo >/dev/null && version=$(rust_version) && [[ -n $version ]] &&
    version_at_least "$version" "$RUST_WANTED"
}

# rust_find DIRECTORY...: makes `cargo` of a fitting toolchain the one on PATH.
# Looks at PATH first, then into the given directories. A toolchain of rustup is
# also found by someone whose HOME is not the one it was installed for.
rust_find() {
  local bin home path=$PATH rustup=${RUSTUP_HOME:-}
  for bin in "" "$@"; do
    PATH=${bin:+$bin:}$path
    command -v cargo >/dev/null || continue
    if rust_fits; then
      export PATH
      return 0
    fi
    home=$(dirname "$(dirname "$(command -v cargo)")")
    for RUSTUP_HOME in "${home%/.cargo}/.rustup" "$home/rustup" "${home%/cargo}/rustup"; do
      [[ -d $RUSTUP_HOME ]] || continue
      export RUSTUP_HOME
      if rust_fits; then
        export PATH
        return 0
      fi
    done
    RUSTUP_HOME=$rustup
    [[ -n $RUSTUP_HOME ]] || unset RUSTUP_HOME
  done
  PATH=$path
  return 1
}
