# shellcheck shell=bash
# What the tests need from the distribution, and the Rust toolchain.

# needed PROGRAM PACKAGE: says the package if the program is not there.
needed() { command -v "$1" >/dev/null || printf '%s\n' "$2"; }

packages_needed() {
  command -v dockerd >/dev/null || engine_packages
  command -v docker >/dev/null || client_package
  needed docker-registry docker-registry
  needed mkfs.btrfs btrfs-progs
  needed ip iproute2
  needed iptables iptables
  needed ps procps
  needed curl curl
  needed setpriv util-linux
  needed shellcheck shellcheck
  needed cc gcc
  needed node nodejs
  needed npm npm
  needed chromium chromium
  # Podman without its recommendations has no names in its networks.
  packages_missing ca-certificates libc6-dev busybox-static podman netavark aardvark-dns
  /usr/bin/python3 -c 'import cryptography' 2>/dev/null || echo python3-cryptography
  docker compose version >/dev/null 2>&1 || needed docker-compose docker-compose
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
}

# Since Debian 13 the docker command is a package of its own.
client_package() {
  if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi
}

stage_packages() {
  ((EUID == 0)) || { echo "must run as root: it starts Docker engines and network namespaces" >&2; return 1; }
  local packages
  mapfile -t packages < <(packages_needed | sort -u)
  if ((${#packages[@]} == 0)); then
    echo "nothing is missing"
    return
  fi
  packages_supported || { echo "these are missing, and there is no apt here: ${packages[*]}" >&2; return 1; }
  echo "installing: ${packages[*]}"
  packages_install "${packages[@]}" >"$WORK/packages.log" 2>&1 || { tail -n 40 "$WORK/packages.log"; return 1; }
}

stage_toolchain() {
  if ! toolchain_use; then
    echo "Rust $RUST_WANTED or newer is needed, with cargo on PATH or in ~/.cargo/bin." >&2
    echo "Install it from https://rustup.rs: rustup toolchain install $RUST_WANTED -c clippy -c rustfmt" >&2
    return 1
  fi
  cargo --version
  if ! cargo fmt --version || ! cargo clippy --version; then
    echo "cargo xtask check needs rustfmt and clippy: rustup component add rustfmt clippy" >&2
    return 1
  fi
  cargo nextest --version 2>/dev/null | head -n 1 || echo "cargo-nextest is not here; cargo test is used"
}

toolchain_use() { rust_find "$HOME/.cargo/bin" /root/.cargo/bin /usr/local/cargo/bin; }

# Where cargo puts what it builds.
target_dir() {
  cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
