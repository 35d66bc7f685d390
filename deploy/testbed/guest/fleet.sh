# shellcheck shell=bash
# A controller on this machine, and the agent in the guest, installed as an
# operator does it.

CONTROLLER_PID=$RUN_DIR/controller.pid

# controller_with COMMAND...: runs it with the settings of the guest's controller.
controller_with() (
  export A67_DATA_DIR=$RUN_DIR/controller
  export A67_HTTP_LISTEN=127.0.0.1:$HTTP_PORT
  # The guest comes from this machine's loopback address, through QEMU.
  export A67_GRPC_LISTEN=127.0.0.1:$GRPC_PORT
  export A67_METRICS_PERIOD_SECONDS=5
  # A guest that stands still for some seconds is no dead node here.
  export A67_NODE_UNREACHABLE_AFTER_MS=60000
  "$@"
)

controller_ready() { curl -sf -o /dev/null --max-time 5 "http://127.0.0.1:$HTTP_PORT/readyz"; }

# Sets what the calls of the API need.
fleet_token() {
  export A67_URL=http://127.0.0.1:$HTTP_PORT A67_TOKEN
  A67_TOKEN=$(cat "$RUN_DIR/token" 2>/dev/null) || guest_fail "there is no controller; 'guest.sh fleet' starts one"
}

fleet_up() {
  local started=$SECONDS controller=$GUEST_BIN_DIR/automator67-controller
  [[ -x $controller && -x $GUEST_BIN_DIR/automator67-agent ]] ||
    guest_fail "the binaries are not in $GUEST_BIN_DIR; A67_BIN_DIR says where they are"
  fleet_down
  controller_with process_start "$CONTROLLER_PID" "$RUN_DIR/controller.log" "$controller" serve
  patient 60 controller_ready || guest_fail "the controller does not answer; its log is $RUN_DIR/controller.log"
  controller_with "$controller" admin create --name guest --role admin >/dev/null 2>>"$RUN_DIR/controller.log"
  (umask 077 && controller_with "$controller" admin api-token --account guest --name guest \
    2>>"$RUN_DIR/controller.log" >"$RUN_DIR/token")
  fleet_token
  timing "controller" "$started"
  agent_install
}

# One line, as in the manual; with a local file, since the guest has no way out.
agent_install() {
  local started=$SECONDS token
  token=$(controller_with "$GUEST_BIN_DIR/automator67-controller" admin enrolment-token 2>>"$RUN_DIR/controller.log")
  strip -o "$RUN_DIR/automator67-agent" "$GUEST_BIN_DIR/automator67-agent"
  machine_put "$RUN_DIR/automator67-agent" /root/automator67-agent
  machine_put "$deploy/install-agent.sh" /root/install-agent.sh
  machine_run "/root/install-agent.sh --binary /root/automator67-agent \
    --controller https://$GUEST_OUTSIDE:$GRPC_PORT --token $token"
  patient 30 node_ready || guest_fail "the node does not get ready"
  timing "install-agent.sh, until the node is ready" "$started"
}

node_ready() { [[ $(api GET /nodes/guest 2>/dev/null | jq -r .state) == ready ]]; }

fleet_down() {
  process_end "$CONTROLLER_PID" 60 || say "the controller had to be killed"
  rm -rf --one-file-system "$RUN_DIR/controller" "$RUN_DIR/token" "$RUN_DIR/automator67-agent"
}

fleet_status() {
  local pid
  if pid=$(process_pid "$CONTROLLER_PID"); then
    say "controller: process $pid, http://127.0.0.1:$HTTP_PORT, token in $RUN_DIR/token"
  else
    say "controller: down"
  fi
}
