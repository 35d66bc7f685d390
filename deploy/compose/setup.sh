#!/usr/bin/env bash
# Brings up Automator67 with Docker Compose: secrets, images, first account, this host's agent.
# Safe to run again: what is there is kept.
set -euo pipefail

here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
env_file=${COMPOSE_ENV_FILE:-$here/.env}

usage() {
  cat <<'TEXT'
Usage: deploy/compose/setup.sh [--build]

Makes deploy/compose/.env (mode 0600, generated secrets), builds the two images
from deploy/bin if they are not there (or always with --build), starts PostgreSQL
and the controller, makes the account 'admin' and an API token, enrols this host's
agent, and waits until the node is ready.

COMPOSE_ENV_FILE names another place for .env. Settings in it that you may change:
HTTP_ADDRESS, HTTP_PORT, GRPC_PORT, NODE_NAME, NODE_ADDRESS, POSTGRES_IMAGE,
BASE_IMAGE, BIN_DIR, IMAGE_TAG, DOCKER_SOCKET.
TEXT
}

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

compose() {
  local command=(docker compose)
  docker compose version >/dev/null 2>&1 || command=(docker-compose)
  "${command[@]}" --env-file "$env_file" -f "$here/compose.yaml" -p automator67 "$@"
}

in_controller() { compose exec -T controller automator67-controller "$@"; }

# setting NAME: its value in .env, or nothing.
setting() { sed -n "s/^$1=//p" "$env_file" | tail -n 1; }

# setting_make NAME VALUE: adds it to .env if it is not there.
setting_make() {
  [[ -n $(setting "$1") ]] || printf '%s=%s\n' "$1" "$2" >>"$env_file"
}

random_text() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

node_name() { uname -n | tr '[:upper:]' '[:lower:]' | tr -c 'a-z0-9\n' '-' | cut -c 1-63 | sed 's/^-*//; s/-*$//'; }

node_address() {
  local address
  address=$(ip route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p' | head -n 1)
  printf '%s\n' "${address:-127.0.0.1}"
}

env_file_make() {
  (umask 077 && touch "$env_file")
  chmod 600 "$env_file"
  setting_make POSTGRES_PASSWORD "$(random_text)"
  setting_make ADMIN_PASSWORD "$(random_text)"
  setting_make NODE_NAME "$(node_name)"
  setting_make NODE_ADDRESS "$(node_address)"
  setting_make HTTP_PORT 6700
  setting_make GRPC_PORT 6701
  setting_make A67_URL "http://127.0.0.1:$(setting HTTP_PORT)"
}

images_make() {
  local tag bin
  tag=$(setting IMAGE_TAG)
  bin=$(setting BIN_DIR)
  if [[ ${1:-} != --build ]] && docker image inspect "automator67/controller:${tag:-local}" \
    "automator67/agent:${tag:-local}" >/dev/null 2>&1; then
    return 0
  fi
  [[ -x $here/../${bin:-bin}/automator67-controller && -x $here/../${bin:-bin}/automator67-agent ]] ||
    fail "there are no binaries in deploy/${bin:-bin}; make them with deploy/build-release.sh"
  compose build
}

controller_wait() {
  local deadline=$((SECONDS + 180))
  until in_controller healthcheck >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "the controller is not ready; see: docker compose logs controller"
    sleep 1
  done
}

account_make() {
  local status=0 token
  setting ADMIN_PASSWORD | in_controller admin create --name admin --role admin --password-stdin || status=$?
  ((status == 0 || status == 3)) || fail "the account could not be made"
  [[ -z $(setting A67_TOKEN) ]] || return 0
  token=$(in_controller admin api-token --account admin --name compose) || fail "the API token could not be made"
  setting_make A67_TOKEN "$token"
}

agent_enrol() {
  local token
  [[ -z $(setting ENROL_TOKEN) ]] || return 0
  token=$(in_controller admin enrolment-token --uses 1 --expires-minutes 60) ||
    fail "the controller gave no enrolment token"
  setting_make ENROL_TOKEN "$token"
}

api() {
  printf 'header = "Authorization: Bearer %s"\n' "$(setting A67_TOKEN)" |
    curl -sf --max-time 10 -K - "$(setting A67_URL)$1"
}

node_wait() {
  local deadline=$((SECONDS + 90))
  until api "/api/v1/nodes/$(setting NODE_NAME)" | grep -o '"state" *: *"[a-z_]*"' | head -n 1 | grep -q '"ready"'; do
    ((SECONDS < deadline)) || fail "the node is not ready; see: docker compose logs agent"
    sleep 1
  done
}

main() {
  case ${1:-} in
    -h | --help) usage; return ;;
    "" | --build) ;;
    *) usage >&2; exit 64 ;;
  esac
  docker version >/dev/null 2>&1 || fail "no Docker engine answers to this user"
  env_file_make
  images_make "${1:-}"
  compose up -d postgres controller
  controller_wait
  account_make
  agent_enrol
  compose up -d agent
  node_wait
  printf '\nAutomator67 is running at %s; node %s is ready.\n' "$(setting A67_URL)" "$(setting NODE_NAME)"
  printf 'Account admin, its password and the API token (A67_TOKEN) are in %s\n' "$env_file"
}

main "$@"
