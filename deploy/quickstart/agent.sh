# shellcheck shell=bash
# This machine as the fleet's first node.

AGENT_STARTED_HERE=0

# A host name was never meant to be a node's name: Web_01.example.org -> web-01-example-org
node_name() {
  local name
  name=$(uname -n | tr '[:upper:]' '[:lower:]' | tr -c 'a-z0-9\n' '-' | cut -c 1-63 | sed 's/^-*//; s/-*$//')
  printf '%s\n' "${name:-node}"
}

step_enrol() {
  # In the agent's own directory: whoever deletes that deletes the enrolment with it.
  local mark=$AGENT_DIR/quickstart-node
  step_begin "Enrolling this machine" "$LOG_DIR/enrol.log"
  NODE=$(cat "$mark" 2>/dev/null || node_name)
  if [[ -s $mark ]]; then
    step_done "is node '$NODE' already"
    return
  fi
  # The token is on a command line for a moment, where others can read it; so it
  # is good for one use and ten minutes.
  local token
  token=$(controller_with "$CONTROLLER_BIN" admin enrolment-token --uses 1 --expires-minutes 10 2>>"$STEP_LOG") ||
    fail "The controller gave no enrolment token."
  run_logged "$AGENT_BIN" enrol --controller "https://127.0.0.1:$GRPC_PORT" --token "$token" \
    --name "$NODE" --data-dir "$AGENT_DIR" --docker-host "$ENGINE_URL" ||
    fail "The agent could not enrol."
  printf '%s\n' "$NODE" >"$mark.new"
  mv -f "$mark.new" "$mark"
  step_done "node '$NODE'"
}

# The address at which this machine's published ports answer to others. Where
# there is none, the agent takes the one by which it reaches the controller.
node_address() {
  if command -v ip >/dev/null; then
    ip route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p' | head -n 1
  else
    hostname -I 2>/dev/null | tr ' ' '\n' | grep -m 1 '^[0-9.]*$'
  fi
}

step_agent() {
  step_begin "Agent" "$LOG_DIR/agent.log"
  if ! process_pid "$AGENT_PID" >/dev/null; then
    AGENT_STARTED_HERE=1
    log_rotate "$STEP_LOG"
    agent_start || fail "The agent ended at once."
  fi
  wait_until 60 node_ready_or_agent_ended || true
  node_ready || fail "The node is not ready; the controller says: $(node_state)"
  step_done "node '$NODE' is ready"
}

agent_start() (
  address=$(node_address) || true
  if [[ -z ${A67_AGENT_ADDRESS:-} && -n $address ]]; then export A67_AGENT_ADDRESS=$address; fi
  # Files with secrets have to be in memory, and in a place that is this user's.
  if [[ -z ${A67_AGENT_SECRETS_DIR:-} ]] && ! secrets_dir_of_root; then
    A67_AGENT_SECRETS_DIR=${XDG_RUNTIME_DIR:-/dev/shm}/automator67-secrets-$(id -u)
    export A67_AGENT_SECRETS_DIR
  fi
  process_start "$AGENT_PID" "$STEP_LOG" \
    "$AGENT_BIN" run --data-dir "$AGENT_DIR" --docker-host "$ENGINE_URL"
)

# Whether the agent's own place for them will do: it is root's, and /run is in memory.
secrets_dir_of_root() { ((EUID == 0)) && [[ $(stat -f -c %T /run) == tmpfs ]]; }

# The first "state" of a node's view is the node's own.
node_state() {
  local view
  view=$(api GET "/api/v1/nodes/$NODE") || { echo unknown; return; }
  grep -o '"state" *: *"[a-z_]*"' <<<"$view" | head -n 1 | cut -d '"' -f 4
}

node_ready() { [[ $(node_state) == ready ]]; }

node_ready_or_agent_ended() { node_ready || ! process_pid "$AGENT_PID" >/dev/null; }
