#!/usr/bin/env bash
# Builds the release binaries into deploy/bin, from where quickstart.sh and the images take them.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
repo=$(dirname "$here")
# shellcheck source=deploy/lib/rust.sh
. "$here/lib/rust.sh"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  echo "Usage: deploy/build-release.sh"
  echo "Builds automator67-controller and automator67-agent, stripped, into deploy/bin."
  echo "They run on this machine's kind of processor, with its C library's version or a newer one."
  exit 0
fi

rust_find "${HOME:-/root}/.cargo/bin" /usr/local/cargo/bin ||
  { echo "Rust $RUST_WANTED or newer is needed (https://rustup.rs)." >&2; exit 1; }
cd "$repo"
# Without Node.js the controller has one page in place of the UI, which says so.
if command -v node >/dev/null && command -v npm >/dev/null; then
  cargo xtask ui
else
  echo "node and npm are not here: the controller is built without its web UI" >&2
fi
cargo build --release --locked -p controller -p node-agent
target=${CARGO_TARGET_DIR:-target}/release
mkdir -p "$here/bin"
for binary in automator67-controller automator67-agent; do
  # The profile strips already; installing by rename lets a running one go on.
  install -m 0755 "$target/$binary" "$here/bin/$binary.new"
  mv -f "$here/bin/$binary.new" "$here/bin/$binary"
  "$here/bin/$binary" --version
done
ls -l "$here/bin"
