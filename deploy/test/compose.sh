# shellcheck shell=bash
# The compose file: checked, its images built on a base made here, and the whole
# of it brought up on an engine of the testbed.

compose_config_checked() {
  local command=(docker-compose)
  ! docker compose version >/dev/null 2>&1 || command=(docker compose)
  POSTGRES_PASSWORD=x NODE_ADDRESS=192.0.2.1 NODE_NAME=n \
    "${command[@]}" -f deploy/compose/compose.yaml config >"$WORK/compose.out"
  # Without its secrets it must refuse, not start with empty ones.
  if "${command[@]}" --env-file /dev/null -f deploy/compose/compose.yaml config >/dev/null 2>&1; then
    echo "compose.yaml does not insist on its settings"
    return 1
  fi
}

images_build() {
  local engine=$1 binaries=$2 context=$WORK/context name
  base_image_make "$engine" "$binaries"
  mkdir -p "$context/bin"
  cp -r deploy/compose "$context/compose"
  for name in controller agent; do
    # Debug information would make the images ten times as large.
    strip -o "$context/bin/automator67-$name" "$binaries/automator67-$name"
    DOCKER_BUILDKIT=0 docker -H "$engine" build -q -f "$context/compose/$name.Dockerfile" \
      --build-arg BASE_IMAGE=a67-base:1 -t "automator67/$name:local" "$context"
  done
  docker -H "$engine" run --rm automator67/controller:local --version
  docker -H "$engine" run --rm automator67/agent:local --version
}

compose_up() {
  local settings=$WORK/compose.env
  cat >"$settings" <<TEXT
POSTGRES_IMAGE=a67-postgres:1
DOCKER_SOCKET=$(bed env h1 | sed -n 's#^DOCKER_HOST=unix://##p')
NODE_ADDRESS=$(bed env h1 | sed -n 's/^ADDRESS=//p')
NODE_NAME=compose
TEXT
  bed exec h1 env COMPOSE_ENV_FILE="$settings" deploy/compose/setup.sh
  echo "-- again: nothing is made twice"
  cp "$settings" "$settings.before"
  bed exec h1 env COMPOSE_ENV_FILE="$settings" deploy/compose/setup.sh
  cmp "$settings.before" "$settings"
}

# The agent in its container runs, measures and survives a restart as one outside does.
compose_used() {
  local operation instance agent
  bed import h1 test 1
  set -a
  # shellcheck disable=SC1091 # made by setup.sh
  . "$WORK/compose.env"
  set +a
  # The API is published on the host's own loopback.
  API_CURL=(bed exec h1 curl)
  operation=$(api POST /deployments '{"name":"web","image":"test:1","command":["httpd","-f","-p","80","-h","/www"],
    "ports":[{"container_port":80,"host_port":8080}]}' | field id)
  operation_wait "$operation"
  wait_until 20 curl -sf --max-time 2 "http://$NODE_ADDRESS:8080/"
  instance=$(api GET /deployments/web | sed 's/.*"instances"//' | field id)
  wait_until 30 instance_measured "$instance"
  agent=$(docker -H "$1" ps -q --filter label=com.docker.compose.service=agent)
  docker -H "$1" restart "$agent" >/dev/null
  operation=$(api DELETE /deployments/web | field id)
  operation_wait "$operation"
  if curl -sf --max-time 2 "http://$NODE_ADDRESS:8080/"; then echo "the deleted deployment still answers"; return 1; fi
}

instance_measured() { api GET "/instances/$1/metrics" | grep -q '"memory_percent":[0-9]'; }

stage_compose() {
  local engine binaries
  trap 'status=$?; ((status == 0)) || compose_logs; bed down; exit $status' EXIT
  compose_config_checked
  binaries=$(target_dir)/debug
  bed up 1
  engine=$(bed env h1 | sed -n 's/^DOCKER_HOST=//p')
  images_build "$engine" "$binaries"
  postgres_image_make "$engine"
  compose_up
  compose_used "$engine"
}

compose_logs() {
  local engine container
  engine=$(bed env h1 | sed -n 's/^DOCKER_HOST=//p') || return 0
  for container in $(docker -H "$engine" ps -aq); do
    docker -H "$engine" ps -a --filter "id=$container"
    docker -H "$engine" logs --tail 30 "$container"
  done
}
