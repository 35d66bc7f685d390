# shellcheck shell=bash
# The scripts themselves: shellcheck, and every verb of the testbed on real engines.

# Name and subnet of the testbed that the stages here use. The default name is
# for people, and the system tests have one of their own.
STAGE_BED=(env A67_TESTBED_NAME=a67t A67_TESTBED_SUBNET=10.69.0.0/24)

bed() { "${STAGE_BED[@]}" "$here/testbed/testbed.sh" "$@"; }

# Takes away the testbeds of the tests. That of the system tests goes only if
# nobody has his turn on it, that is, if it was left by a run that was killed.
testbeds_down() {
  bed down
  flock -n /tmp/a67s-testbed.turn \
    env A67_TESTBED_NAME=a67s A67_TESTBED_SUBNET=10.68.0.0/24 "$here/testbed/testbed.sh" down || true
}

stage_scripts() {
  local script
  # Parts are checked through the script that sources them.
  for script in deploy/*.sh deploy/testbed/*.sh deploy/compose/*.sh .ci/run; do
    shellcheck --external-sources --check-sourced --severity=warning "$script"
  done
}

stage_testbed() {
  trap 'bed down' EXIT
  local address socket
  # Sizes of containers' file systems are enforced on btrfs only.
  STAGE_BED+=(A67_TESTBED_STORAGE=btrfs A67_TESTBED_DISK_MIB=1024)
  bed up 2
  bed import all test 1
  address=$(bed env h1 | sed -n 's/^ADDRESS=//p')
  socket=$(bed env h1 | sed -n 's/^DOCKER_HOST=//p')
  docker -H "$socket" run -d -p 8080:80 --name web test:1 httpd -f -p 80 -h /www
  wait_until 20 curl -sf --max-time 2 "http://$address:8080/"
  bed cut h1
  if curl -s --max-time 2 "http://$address:8080/"; then echo "a cut host answers"; return 1; fi
  bed heal h1
  wait_until 20 curl -sf --max-time 2 "http://$address:8080/"
  bed push h1 test 1
  bed exec h2 docker pull 10.69.0.1:5000/test:1
  docker -H "$socket" run --rm --storage-opt size=16M test:1 \
    sh -c '! dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null'
  bed engine-kill h1
  wait_until 20 curl -sf --max-time 2 "http://$address:8080/"
  bed engine-start h1
  [[ $(docker -H "$socket" inspect -f '{{.State.ExitCode}}' web) == 137 ]]
  bed engine-stop h1
  bed status
  bed down
  ! ip link show a67t-br 2>/dev/null
}
