# shellcheck shell=bash disable=SC2034
# Options, and where things lie in the data directory.

OPT_YES=0
OPT_DETACH=0
OPT_DOWN=0
OPT_INSTALL=1
HTTP_PORT=6700
GRPC_PORT=6701
DATA_DIR=
ADMIN_NAME="admin"

usage() {
  cat <<'TEXT'
Brings up Automator67 on this machine: a controller with a private PostgreSQL,
and an agent for this machine's Docker. Says what it needs, and installs it from
the distribution after asking. A second run resumes with the data intact.

  deploy/quickstart.sh [options]

  --detach          leave everything running and return
                    (without it: stay, and stop everything on Ctrl-C)
  --down            stop what an earlier run started, and nothing else; data stays
  --yes             install what is missing without asking
  --no-install      install nothing; say what is missing and stop
  --data-dir DIR    where everything is kept: /var/lib/automator67 for root, else
                    $XDG_DATA_HOME/automator67 or ~/.local/share/automator67
  --http-port PORT  REST API, on 127.0.0.1 (6700)
  --grpc-port PORT  for agents, on all addresses (6701)
  --help            this text

Environment: A67_DATABASE_URL uses that PostgreSQL instead of a private one.
A67_BIN_DIR takes the binaries from there instead of deploy/bin. DOCKER_HOST
names another engine's socket (unix:///...). Every other A67_ setting of the
controller and the agent is passed on to them.

Afterwards DIR/quickstart.env holds A67_URL and A67_TOKEN, and DIR/admin-password
the password of the account 'admin'.
TEXT
}

options_fail() {
  printf 'quickstart: %s\n(deploy/quickstart.sh --help lists the options)\n' "$*" >&2
  exit 64
}

port_check() {
  [[ $2 =~ ^[1-9][0-9]{0,4}$ && $2 -le 65535 ]] || options_fail "$1 needs a port number, not '$2'"
}

options_parse() {
  while (($# > 0)); do
    case $1 in
      --yes | -y) OPT_YES=1 ;;
      --detach | -d) OPT_DETACH=1 ;;
      --down) OPT_DOWN=1 ;;
      --no-install) OPT_INSTALL=0 ;;
      --help | -h) usage; exit 0 ;;
      --data-dir | --http-port | --grpc-port)
        (($# >= 2)) || options_fail "$1 needs a value"
        case $1 in
          --data-dir) DATA_DIR=$2 ;;
          --http-port) port_check "$1" "$2"; HTTP_PORT=$2 ;;
          --grpc-port) port_check "$1" "$2"; GRPC_PORT=$2 ;;
        esac
        shift
        ;;
      *) options_fail "there is no option '$1'" ;;
    esac
    shift
  done
  settings_derive
}

settings_derive() {
  if [[ -z $DATA_DIR ]]; then
    if ((EUID == 0)); then
      DATA_DIR=/var/lib/automator67
    else
      DATA_DIR=${XDG_DATA_HOME:-$HOME/.local/share}/automator67
    fi
  fi
  DATA_DIR=$(realpath -m -- "$DATA_DIR")
  LOG_DIR=$DATA_DIR/log
  RUN_DIR=$DATA_DIR/run
  CONTROLLER_DIR=$DATA_DIR/controller
  AGENT_DIR=$DATA_DIR/agent
  CONTROLLER_PID=$RUN_DIR/controller.pid
  AGENT_PID=$RUN_DIR/agent.pid
  DOCKERD_PID=$RUN_DIR/dockerd.pid
  ENGINE_UNIT_MARK=$RUN_DIR/docker.service
  PASSWORD_FILE=$DATA_DIR/admin-password
  TOKEN_FILE=$DATA_DIR/api-token
  ENV_FILE=$DATA_DIR/quickstart.env
  URL=http://127.0.0.1:$HTTP_PORT
  ENGINE_URL=${DOCKER_HOST:-unix:///var/run/docker.sock}
  BIN_DIR=${A67_BIN_DIR:-$here/bin}
  # The controller refuses settings that it does not know; these are the scripts' own.
  unset A67_BIN_DIR "${!A67_TEST@}"
}

# The directory itself may be entered by others, because a private PostgreSQL
# started by root runs as another user; what is secret lies in files of mode 0600.
data_dir_make() {
  mkdir -p "$DATA_DIR" 2>/dev/null || true
  [[ -d $DATA_DIR && -w $DATA_DIR ]] ||
    fail "Cannot write to $DATA_DIR; choose another place with --data-dir."
  mkdir -p "$LOG_DIR" "$RUN_DIR"
  chmod 0700 "$LOG_DIR" "$RUN_DIR"
  if ((EUID == 0)); then chmod 0711 "$DATA_DIR"; fi
}

# log_rotate FILE: a daemon's log starts anew once it is large; one older file is kept.
log_rotate() {
  if [[ -s $1 ]] && (($(stat -c %s "$1") > 20000000)); then mv -f "$1" "$1.old"; fi
}

# secret_write FILE: takes over standard input; the file is ours alone, and whole or not there.
secret_write() {
  (umask 077 && cat >"$1.new") && [[ -s $1.new ]] && mv -f "$1.new" "$1"
}

# Two runs on one data directory would start everything twice.
run_lock() {
  exec 8>"$RUN_DIR/lock"
  flock -n 8 || fail "another quickstart.sh is at work on $DATA_DIR"
}

run_unlock() { exec 8>&-; }
