# shellcheck shell=bash
# The web UI in a real browser: a controller with a private PostgreSQL, and an agent
# with an engine of the testbed.

UI_HTTP=16720
UI_GRPC=16721

ui_end() {
  local status=$?
  set +e
  if ((status != 0)); then tail -n 20 "$WORK"/ui/*.log; fi
  process_stop "$WORK/ui/agent.pid" TERM 15
  process_stop "$WORK/ui/controller.pid" TERM 30
  bed down
}

ui_controller() {
  local gateway
  gateway=$(bed env h1 | sed -n 's/^ADDRESS=\(.*\)\.[0-9]*$/\1.1/p')
  # Each page that is loaded anew counts as an attempt of its address.
  A67_DATA_DIR=$WORK/ui/controller A67_HTTP_LISTEN=127.0.0.1:$UI_HTTP A67_GRPC_LISTEN=0.0.0.0:$UI_GRPC \
    A67_PUBLIC_URL=http://127.0.0.1:$UI_HTTP A67_AGENT_URL=https://$gateway:$UI_GRPC \
    A67_SIGN_IN_LIMIT_PER_ADDRESS_PER_MINUTE=0 \
    process_start "$WORK/ui/controller.pid" "$WORK/ui/controller.log" "$UI_BIN/automator67-controller" serve
}

ui_ready() { curl -sf -o /dev/null --max-time 5 "http://127.0.0.1:$UI_HTTP/readyz"; }

# Carries out the line that the UI shows, on the host h1: a word of it is no shell's.
ui_enrol() {
  local words
  read -r -a words <<<"$COMMAND"
  [[ ${words[0]} == automator67-agent && ${words[1]} == enrol ]] || { echo "unexpected: $COMMAND" >&2; return 1; }
  local engine agent=("$UI_BIN/automator67-agent")
  engine=$(bed env h1 | sed -n 's/^DOCKER_HOST=//p')
  bed exec h1 "${agent[@]}" "${words[@]:1}" --name h1 --data-dir "$WORK/ui/agent" --docker-host "$engine"
  process_start "$WORK/ui/agent.pid" "$WORK/ui/agent.log" \
    "${STAGE_BED[@]}" "$here/testbed/testbed.sh" exec h1 \
    "${agent[@]}" run --data-dir "$WORK/ui/agent" --docker-host "$engine"
}

# Waits for the browser's test to have shown the line, carries it out, and says so.
ui_enrol_when_asked() {
  local COMMAND
  COMMAND=$(cat "$WORK/ui/command")
  if ui_enrol; then echo enrolled; else echo refused; fi >"$WORK/ui/enrolled"
}

stage_ui() {
  local invite
  UI_BIN=$(target_dir)/debug
  mkdir -p "$WORK/ui"
  chmod 0711 "$WORK/ui"
  trap ui_end EXIT
  bed down
  bed up 1
  bed import h1 web 1
  ui_controller
  wait_until 60 ui_ready
  invite=$(grep -o 'a67i_[A-Za-z0-9_-]*' "$WORK/ui/controller.log" | head -n 1)
  mkfifo "$WORK/ui/command" "$WORK/ui/enrolled"
  ui_enrol_when_asked &
  # The enrolment is done here, where the testbed's functions are.
  A67_URL=http://127.0.0.1:$UI_HTTP A67_E2E_INVITE=$invite A67_E2E_IMAGE=web:1 A67_E2E_SLOW=4 \
    A67_E2E_ENROL="printf '%s\n' \"\$COMMAND\" >$WORK/ui/command && grep -q enrolled $WORK/ui/enrolled" \
    timeout 400 node crates/dashboard/web/e2e/run.mjs
}
