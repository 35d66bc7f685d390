# shellcheck shell=bash
# The controller, the first account, and a token for its API.

CONTROLLER_STARTED_HERE=0
PASSWORD_NEW=0

# controller_with COMMAND...: runs a command with this quickstart's settings for the controller.
controller_with() (
  export A67_DATA_DIR=$CONTROLLER_DIR
  export A67_HTTP_LISTEN=127.0.0.1:$HTTP_PORT
  export A67_GRPC_LISTEN=0.0.0.0:$GRPC_PORT
  export A67_PUBLIC_URL=$URL
  "$@"
)

controller_ready() { curl -sf -o /dev/null --max-time 5 "$URL/readyz"; }

controller_ready_or_ended() { controller_ready || ! process_pid "$CONTROLLER_PID" >/dev/null; }

step_controller() {
  step_begin "Controller" "$LOG_DIR/controller.log"
  if process_pid "$CONTROLLER_PID" >/dev/null; then
    controller_ready || fail "A controller of an earlier run is there, but does not answer at $URL." \
      "If it was started with other ports, give the same ones; or stop it: $(command_text --down)"
    step_done "runs already"
    return
  fi
  postgres_can_enter
  CONTROLLER_STARTED_HERE=1
  log_rotate "$STEP_LOG"
  controller_with process_start "$CONTROLLER_PID" "$STEP_LOG" "$CONTROLLER_BIN" serve ||
    fail "The controller ended at once."
  wait_until 90 controller_ready_or_ended || true
  controller_ready || fail "The controller does not answer at $URL/readyz."
  step_done "ready at $URL"
}

# A private PostgreSQL that root starts runs as another user, who must be able
# to reach its directory; a home directory closed to others would not do.
postgres_can_enter() {
  local user=${A67_POSTGRES_USER:-postgres}
  if ((EUID != 0)) || [[ -n ${A67_DATABASE_URL:-} ]]; then return 0; fi
  id "$user" >/dev/null 2>&1 || user=nobody
  setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups test -x "$DATA_DIR" 2>/dev/null ||
    fail "User '$user', as whom PostgreSQL runs, cannot reach $DATA_DIR: a directory above it is closed." \
      "Choose another place with --data-dir, or set A67_POSTGRES_USER to a user who can."
}

# Makes the password before the account: a crash between the two leaves a file
# that the next run uses, and never an account whose password nobody knows.
step_account() {
  local status=0
  step_begin "Account and API token" "$LOG_DIR/account.log"
  if [[ ! -s $PASSWORD_FILE ]]; then
    head -c 18 /dev/urandom | base64 | tr '+/' '-_' | secret_write "$PASSWORD_FILE"
    PASSWORD_NEW=1
  fi
  controller_with "$CONTROLLER_BIN" admin create --name "$ADMIN_NAME" --role admin --password-stdin \
    <"$PASSWORD_FILE" >>"$STEP_LOG" 2>&1 || status=$?
  case $status in
    0) ;;
    3) if ((PASSWORD_NEW)); then password_unknown; fi ;;
    *) fail "The account could not be made." ;;
  esac
  token_works || token_make
  env_file_write
  step_done "account '$ADMIN_NAME'"
}

# The account was made by someone else, and so was its password.
password_unknown() {
  rm -f "$PASSWORD_FILE"
  PASSWORD_NEW=0
}

token_works() {
  [[ -s $TOKEN_FILE ]] && api GET /api/v1/auth/me >/dev/null
}

token_make() {
  controller_with "$CONTROLLER_BIN" admin api-token --account "$ADMIN_NAME" --name quickstart \
    2>>"$STEP_LOG" | secret_write "$TOKEN_FILE" || fail "The API token could not be made."
  token_works || fail "The controller does not accept the token it has just made."
}

env_file_write() {
  printf 'A67_URL=%s\nA67_TOKEN=%s\n' "$URL" "$(cat "$TOKEN_FILE")" | secret_write "$ENV_FILE"
}

# api METHOD PATH: the token goes through a pipe, since everyone can read command lines.
api() {
  printf 'header = "Authorization: Bearer %s"\n' "$(cat "$TOKEN_FILE")" |
    curl -sf --max-time 10 -K - -X "$1" "$URL$2"
}
