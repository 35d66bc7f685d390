# shellcheck shell=bash
# A few REST calls with curl, for the smoke tests. A67_URL and A67_TOKEN are set by the caller.

# How the API is reached.
API_CURL=(curl)

# api METHOD PATH [BODY]: prints the answer; fails, and shows it, when the status is an error.
api() {
  local answer status
  answer=$(printf 'header = "Authorization: Bearer %s"\n' "$A67_TOKEN" |
    "${API_CURL[@]}" -s --max-time 60 -K - -X "$1" -w '\n%{http_code}' \
      ${3:+-H 'Content-Type: application/json' -d "$3"} "$A67_URL/api/v1$2")
  status=${answer##*$'\n'}
  printf '%s\n' "${answer%$'\n'*}"
  if ((status < 200 || status > 299)); then
    printf '%s %s: %s %s\n' "$1" "$2" "$status" "${answer%$'\n'*}" >&2
    return 1
  fi
}

# field NAME: the first member of that name in the JSON on standard input.
field() { grep -o "\"$1\" *: *\(\"[^\"]*\"\|[^,}]*\)" | head -n 1 | sed "s/^\"$1\" *: *//; s/^\"//; s/\"\$//"; }

# operation_wait ID: waits for its end, and fails unless it succeeded.
operation_wait() {
  local view
  view=$(api GET "/operations/$1?wait_seconds=55")
  [[ $(field verdict <<<"$view") == succeeded ]] || { printf 'the operation: %s\n' "$view" >&2; return 1; }
}
