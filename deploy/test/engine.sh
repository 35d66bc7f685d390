# shellcheck shell=bash
# An engine in this machine's own network, for the tests of the agent's runtime.
# Where one answers already it is used: those tests touch only their own containers.

ENGINE_PID=
ENGINE_LOG=
ENGINE_SOCKET=

engine_socket_answers() { curl -sf -o /dev/null --max-time 5 --unix-socket "$1" http://engine/_ping; }

engine_up() {
  if engine_socket_answers /var/run/docker.sock; then
    export DOCKER_HOST=unix:///var/run/docker.sock
    return
  fi
  local dir=$WORK/engine
  ENGINE_PID=$dir/dockerd.pid ENGINE_LOG=$dir/dockerd.log ENGINE_SOCKET=$dir/docker.sock
  mkdir -p "$dir"
  echo '{}' >"$dir/daemon.json"
  process_start "$ENGINE_PID" "$ENGINE_LOG" dockerd --config-file "$dir/daemon.json" --host "unix://$ENGINE_SOCKET" \
    --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/docker.pid" --log-level warn
  wait_until 60 engine_socket_answers "$ENGINE_SOCKET" || { tail -n 20 "$ENGINE_LOG" >&2; return 1; }
  export DOCKER_HOST=unix://$ENGINE_SOCKET
}

engine_down() {
  [[ -n $ENGINE_PID ]] || return 0
  process_end "$ENGINE_PID" 60 || echo "the test engine had to be killed" >&2
  local point
  awk -v dir="$WORK/engine/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac |
    while read -r point; do umount -l "$point" || true; done
  ip link delete docker0 2>/dev/null || true
}
