# shellcheck shell=bash
# Looks at what this machine has, says what is missing, and installs it.

NEED_PACKAGES=()
NEED_RUST=0

postgres_version_of() {
  "$1/postgres" --version 2>/dev/null | sed -n 's/^postgres (PostgreSQL) \([0-9]*\).*/\1/p'
}

# Prints "VERSION DIRECTORY" of PostgreSQL's newest programs, if they are 14 or newer.
postgres_find() {
  local bin version on_path=
  if bin=$(command -v postgres); then on_path=$(dirname "$(readlink -f "$bin")"); fi
  for bin in ${A67_POSTGRES_BIN_DIR:+"$A67_POSTGRES_BIN_DIR"} /usr/lib/postgresql/*/bin ${on_path:+"$on_path"}; do
    [[ -x $bin/postgres && -x $bin/initdb ]] || continue
    version=$(postgres_version_of "$bin")
    if ((${version:-0} >= 14)); then printf '%s %s\n' "$version" "$bin"; fi
  done | sort -rn | head -n 1 | grep .
}

have() { printf '  %-12s %s\n' "$1" "$2"; }

step_check() {
  printf 'Automator67 quickstart, data in %s\n' "$DATA_DIR"
  step_begin "Looking at this machine" "$LOG_DIR/check.log"
  step_done "found:"
  check_tools
  check_engine
  check_postgres
  check_binaries
  check_ports
}

check_tools() {
  local program
  [[ $(uname -s) == Linux ]] || fail "Automator67 needs Linux."
  command -v curl >/dev/null || NEED_PACKAGES+=(curl ca-certificates)
  for program in setsid flock; do
    command -v "$program" >/dev/null || NEED_PACKAGES+=(util-linux)
  done
}

check_engine() {
  [[ $ENGINE_URL == unix://* ]] ||
    fail "DOCKER_HOST is $DOCKER_HOST; the agent runs on its Docker host and needs a unix:// socket."
  if engine_answers; then
    have Docker "engine answers at $ENGINE_URL"
  elif engine_refuses; then
    fail "Docker is there, but its socket ${ENGINE_URL#unix://} is closed to user $(id -un)." \
      "Either run this as root (sudo $0), or add yourself to its group and sign in again:" \
      "  sudo usermod -aG $(stat -c %G "${ENGINE_URL#unix://}") $(id -un)"
  elif [[ -n ${DOCKER_HOST:-} ]]; then
    fail "DOCKER_HOST is $DOCKER_HOST, but no engine answers there."
  elif dockerd_find >/dev/null; then
    have Docker "installed, not running; will be started"
    ((EUID == 0)) || fail "Docker is installed, but not running, and only root can start it." \
      "Start it (sudo systemctl start docker), or run this as root (sudo $0)."
  else
    have Docker "missing"
    mapfile -t -O "${#NEED_PACKAGES[@]}" NEED_PACKAGES < <(engine_packages)
  fi
}

check_postgres() {
  local found
  if [[ -n ${A67_DATABASE_URL:-} ]]; then
    have PostgreSQL "the server in A67_DATABASE_URL"
  elif found=$(postgres_find); then
    have PostgreSQL "programs of version ${found%% *} in ${found#* }"
  else
    have PostgreSQL "missing (programs of version 14 or newer)"
    NEED_PACKAGES+=(postgresql)
  fi
}

check_binaries() {
  if binaries_prebuilt; then
    have Binaries "prebuilt, in $BIN_DIR"
    return
  fi
  if binaries_unusable; then
    have Binaries "those in $BIN_DIR do not run on this machine; will be built from source"
  else
    have Binaries "none in $BIN_DIR; will be built from source"
  fi
  if rust_find "$DATA_DIR/rust/cargo/bin" "${HOME:-/root}/.cargo/bin" /usr/local/cargo/bin; then
    have Rust "$(rust_version)"
  else
    have Rust "missing (version $RUST_WANTED or newer)"
    NEED_RUST=1
    NEED_PACKAGES+=(curl ca-certificates)
  fi
  # Rust links with the C compiler, and one dependency has C in it.
  command -v cc >/dev/null || NEED_PACKAGES+=(gcc libc6-dev)
}

port_in_use() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

check_ports() {
  local port option
  process_pid "$CONTROLLER_PID" >/dev/null && return 0
  for option in --http-port --grpc-port; do
    port=$HTTP_PORT
    [[ $option == --http-port ]] || port=$GRPC_PORT
    if port_in_use "$port"; then
      fail "Port $port is in use by another program; choose another one with $option."
    fi
  done
}

ask() {
  local answer
  ((OPT_YES)) && return 0
  [[ -t 0 ]] || fail "There is no terminal to ask on. Run again with --yes to install it."
  read -r -p "$1 [Y/n] " answer
  [[ $answer =~ ^([yY]|[yY]es)?$ ]]
}

step_install() {
  local packages=() words=()
  if ((${#NEED_PACKAGES[@]})); then
    mapfile -t packages < <(printf '%s\n' "${NEED_PACKAGES[@]}" | sort -u)
    words+=("the packages ${packages[*]}")
  fi
  if ((NEED_RUST)); then words+=("Rust $RUST_WANTED (about 300 MB, into $DATA_DIR/rust)"); fi
  if ((${#words[@]} == 0)); then
    step_begin "Installing what is missing" "$LOG_DIR/install.log"
    step_done "nothing is"
    return
  fi
  printf 'Needed, and not here: %s\n' "$(printf '%s; ' "${words[@]}" | sed 's/; $//')"
  ((OPT_INSTALL)) || fail "Nothing is installed, because of --no-install."
  ask "Install?" || fail "Nothing was installed."
  step_begin "Installing what is missing" "$LOG_DIR/install.log"
  install_packages "${packages[@]}"
  if ((NEED_RUST)); then install_rust; fi
  step_done
}

install_packages() {
  (($# > 0)) || return 0
  packages_supported ||
    fail "This machine has no apt. Install by its own means what provides: $*" \
      "(Docker Engine 20.10 or newer, PostgreSQL's programs 14 or newer), and run this again."
  if ((EUID == 0)); then
    run_logged packages_install "$@" || fail "apt could not install: $*"
  elif command -v sudo >/dev/null; then
    # Asks for the password now, while someone looks.
    sudo -v || fail "Only root can install packages. As root: apt-get install $*"
    run_logged sudo -n bash -c ". '$here/lib/packages.sh'; packages_install \"\$@\"" packages "$@" ||
      fail "apt could not install: $*"
  else
    fail "Only root can install packages. As root: apt-get install $*"
  fi
}

# The toolchain goes into the data directory: nobody's own Rust is touched, and
# it disappears with the directory.
install_rust() {
  local arch target init=$DATA_DIR/rust/rustup-init base=https://static.rust-lang.org/rustup/dist
  arch=$(uname -m)
  target=$arch-unknown-linux-gnu
  mkdir -p "$DATA_DIR/rust"
  run_logged curl -fsSL --retry 3 --max-time 600 -o "$init" "$base/$target/rustup-init" || rust_cannot_be_had
  run_logged curl -fsSL --retry 3 --max-time 60 -o "$init.sha256" "$base/$target/rustup-init.sha256" ||
    rust_cannot_be_had
  [[ $(sha256sum <"$init" | cut -d' ' -f1) == "$(cut -d' ' -f1 <"$init.sha256")" ]] ||
    fail "rustup-init was damaged on its way: its checksum is wrong."
  chmod 755 "$init"
  RUSTUP_HOME=$DATA_DIR/rust/rustup CARGO_HOME=$DATA_DIR/rust/cargo RUSTUP_AUTO_INSTALL=0 \
    run_logged "$init" -y --no-modify-path --profile minimal --default-toolchain "$RUST_WANTED" ||
    rust_cannot_be_had
  rust_find "$DATA_DIR/rust/cargo/bin" || rust_cannot_be_had
}

rust_cannot_be_had() {
  fail "Rust $RUST_WANTED could not be had from static.rust-lang.org, and there are no prebuilt binaries." \
    "Either run deploy/build-release.sh on a machine that has Rust and copy its deploy/bin here," \
    "or install Rust $RUST_WANTED or newer yourself, and run this again."
}
