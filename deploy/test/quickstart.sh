# shellcheck shell=bash
# The quickstart as a person runs it, on this machine's own engine, with debug binaries.

QS_HTTP=16700
QS_GRPC=16701
QS_PORT=16780

qs() {
  A67_BIN_DIR=$QS_BIN "$here/quickstart.sh" --data-dir "$WORK/qs" \
    --http-port "$QS_HTTP" --grpc-port "$QS_GRPC" "$@"
}

qs_settings() {
  set -a
  # shellcheck disable=SC1091 # made by the quickstart
  . "$WORK/qs/quickstart.env"
  set +a
}

qs_end() {
  local status=$?
  set +e
  if ((status != 0)); then tail -n 30 "$WORK"/qs/log/*.log; fi
  [[ ! -d $WORK/qs/run ]] || { api DELETE /deployments/smoke >/dev/null 2>&1; qs --down; }
}

qs_container() { api GET /deployments/smoke | field container_id; }

qs_page() { [[ $(curl -sf --max-time 2 "http://127.0.0.1:$QS_PORT/") == a67-smoke:1 ]]; }

stage_quickstart() {
  local first token operation
  QS_BIN=$(target_dir)/debug
  trap qs_end EXIT
  echo "-- first run"
  qs --yes --detach
  qs_settings
  [[ $(stat -c %a "$WORK/qs/quickstart.env") == 600 ]]
  token=$A67_TOKEN
  docker load -q -i <("$here/testbed/testbed.sh" image /dev/stdout a67-smoke 1)
  operation=$(api POST /deployments '{"name":"smoke","image":"a67-smoke:1","command":["httpd","-f","-p","80","-h","/www"],
    "ports":[{"container_port":80,"host_port":'"$QS_PORT"'}]}' | field id)
  operation_wait "$operation"
  wait_until 20 qs_page
  first=$(qs_container)
  echo "-- second run, over a running one: same token, same container"
  qs --yes --detach
  qs_settings
  [[ $A67_TOKEN == "$token" && $(qs_container) == "$first" ]]
  echo "-- down and up again: same data"
  qs --down
  if curl -s --max-time 2 "$A67_URL/healthz"; then echo "the controller still answers"; return 1; fi
  qs --yes --detach
  qs_settings
  [[ $A67_TOKEN == "$token" ]]
  wait_until 60 qs_page
  echo "-- delete, and down"
  operation=$(api DELETE /deployments/smoke | field id)
  operation_wait "$operation"
  if qs_page; then echo "the deleted deployment still answers"; return 1; fi
  docker rmi a67-smoke:1
  qs --down
}
