# shellcheck shell=bash
# Says what runs and what to do next; in the foreground, watches over it.

# The command line that runs this quickstart again, with its data directory.
command_text() {
  local text="$here/quickstart.sh" default=/var/lib/automator67
  ((EUID == 0)) || default=${XDG_DATA_HOME:-$HOME/.local/share}/automator67
  [[ $DATA_DIR == "$default" ]] || text+=" --data-dir $DATA_DIR"
  printf '%s %s\n' "$text" "$*"
}

summary_print() {
  printf '\nAutomator67 is running.\n\n'
  printf '  web UI    %s\n  API       %s/api/v1\n' "$URL" "$URL"
  if ((PASSWORD_NEW)); then
    printf '  sign in   %s, password %s (kept in %s)\n' "$ADMIN_NAME" "$(cat "$PASSWORD_FILE")" "$PASSWORD_FILE"
  elif [[ -s $PASSWORD_FILE ]]; then
    printf '  sign in   %s, password in %s\n' "$ADMIN_NAME" "$PASSWORD_FILE"
  else
    printf '  sign in   %s, with the password that was given to it\n' "$ADMIN_NAME"
  fi
  printf '  token     A67_TOKEN in %s\n  logs      %s\n' "$ENV_FILE" "$LOG_DIR"
  cat <<TEXT

Deploy something:

  . $ENV_FILE
  curl -s "\$A67_URL/api/v1/deployments" -H "Authorization: Bearer \$A67_TOKEN" \\
    -H 'Content-Type: application/json' \\
    -d '{"name":"hello","image":"nginx:alpine","ports":[{"container_port":80,"host_port":8080}]}'

and see it run:

  curl -s "\$A67_URL/api/v1/deployments/hello" -H "Authorization: Bearer \$A67_TOKEN"
  curl -s http://127.0.0.1:8080/

TEXT
  if ((OPT_DETACH)); then
    printf 'Stop everything:  %s\n' "$(command_text --down)"
  else
    printf 'Ctrl-C stops everything.\n'
  fi
}

# Stays until Ctrl-C, until one of the two ends by itself, or until someone
# calls --down, which takes the pid files away.
stay() {
  trap 'trap "" INT TERM; printf "\n"; down; exit 0' INT TERM
  while true; do
    sleep 1 &
    wait $! || true
    watch_one "The controller" "$CONTROLLER_PID" "$LOG_DIR/controller.log"
    watch_one "The agent" "$AGENT_PID" "$LOG_DIR/agent.log"
  done
}

watch_one() {
  process_pid "$2" >/dev/null && return 0
  # --down takes the files away one by one; give it the time to finish.
  sleep 1
  if [[ ! -e $2 ]]; then
    printf 'Stopped by --down.\n'
    exit 0
  fi
  printf '%s ended by itself. The end of %s:\n' "$1" "$3" >&2
  tail -n 15 "$3" | cut -c 1-400 >&2
  down
  exit 1
}
