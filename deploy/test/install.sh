# shellcheck shell=bash
# install-agent.sh below a directory of its own, with a service manager, package
# managers and an agent that only note what they were asked. Touches nothing of
# this host.

# The environment of the stand-ins; not A67_, which names settings of the daemons.
install_world() {
  export INSTALL_ROOT=$WORK/install/$1
  export INSTALL_LOG=$INSTALL_ROOT/log
  INSTALL_FAKE=$INSTALL_ROOT/fake
  rm -rf "$INSTALL_ROOT"
  mkdir -p "$INSTALL_ROOT/etc" "$INSTALL_FAKE"
  : >"$INSTALL_LOG"
  printf 'ID=%s\nID_LIKE="%s"\n' "$2" "${3:-}" >"$INSTALL_ROOT/etc/os-release"
  install_fakes
}

install_fakes() {
  cat >"$INSTALL_FAKE/systemctl" <<'TEXT'
#!/usr/bin/env bash
echo "systemctl $*" >>"$INSTALL_LOG"
case "$*" in
  is-active*) [[ -e $INSTALL_ROOT/active ]] ;;
  restart*)
    rm -f "$INSTALL_ROOT/active"
    ! grep -q BROKEN "$INSTALL_ROOT/usr/local/bin/automator67-agent" || exit 1
    touch "$INSTALL_ROOT/active"
    ;;
  disable*) rm -f "$INSTALL_ROOT/active" ;;
esac
TEXT
  cat >"$INSTALL_FAKE/apt-get" <<'TEXT'
#!/usr/bin/env bash
echo "${0##*/} $*" >>"$INSTALL_LOG"
case " $* " in
  *" list "*) [[ ! -e $INSTALL_ROOT/no-moby ]] ;;
  *" install "*) printf '#!/bin/sh\n' >"${0%/*}/dockerd"; chmod 755 "${0%/*}/dockerd" ;;
esac
TEXT
  cp "$INSTALL_FAKE/apt-get" "$INSTALL_FAKE/dnf"
  chmod 755 "$INSTALL_FAKE"/*
}

# install_agent_make FILE VERSION: a program that does what the script asks of an agent.
install_agent_make() {
  cat >"$1" <<TEXT
#!/usr/bin/env bash
version="$2"
TEXT
  cat >>"$1" <<'TEXT'
echo "agent $*" >>"$INSTALL_LOG"
case $1 in
  --version) echo "automator67-agent $version" ;;
  unit) echo "# the unit of $version" ;;
  --config)
    [[ -e $2 && " $* " != *" --token refused "* ]] || exit 1
    while [[ $1 != --data-dir ]]; do shift; done
    mkdir -p "$2" && echo '{}' >"$2/node.json"
    ;;
esac
TEXT
  chmod 755 "$1"
}

# Without a terminal, and with no program of this host but the common ones.
install_run() {
  PATH=$INSTALL_FAKE:/usr/bin:/bin setsid -w "$here/install-agent.sh" --root "$INSTALL_ROOT" "$@" \
    >"$INSTALL_ROOT/out" 2>&1 </dev/null
}

install_ok() {
  install_run "$@" || { echo "failed: $*"; cat "$INSTALL_ROOT/out"; return 1; }
}

# install_fails CODE WORDS ARGUMENT...: it must end with this code and these words.
install_fails() {
  local wanted=$1 words=$2 code=0
  shift 2
  install_run "$@" || code=$?
  if ((code != wanted)) || ! grep -qF -- "$words" "$INSTALL_ROOT/out"; then
    echo "expected $wanted and '$words', got $code: $*"
    cat "$INSTALL_ROOT/out"
    return 1
  fi
}

asked() { grep -qxF -- "$1" "$INSTALL_LOG" || { echo "never asked: $1"; cat "$INSTALL_LOG"; return 1; }; }

not_asked() {
  if grep -F -- "$1" "$INSTALL_LOG"; then echo "and should not"; return 1; fi
}

install_engine_cases() {
  local node=(--controller https://c.example:6701 --token sesame)
  echo "-- without an engine nothing is installed unless somebody says so"
  install_world plain debian
  install_fails 1 "no terminal" --binary "$INSTALL_NEW" "${node[@]}"
  [[ ! -e $INSTALL_ROOT/usr/local/bin/automator67-agent ]]
  not_asked "apt-get"
  echo "-- Debian and its relatives"
  install_world mint linuxmint "ubuntu debian"
  install_ok --yes --binary "$INSTALL_NEW" "${node[@]}"
  grep -q "^apt-get .*install .*docker.io" "$INSTALL_LOG"
  asked "systemctl enable --now docker.service"
  echo "-- Fedora, and a relative that has no such package"
  install_world fedora fedora
  install_ok --yes --binary "$INSTALL_NEW" "${node[@]}"
  asked "dnf -q -y install moby-engine"
  install_world rocky rocky "rhel centos fedora"
  touch "$INSTALL_ROOT/no-moby"
  install_fails 1 "has no package of it" --yes --binary "$INSTALL_NEW" "${node[@]}"
  echo "-- an unknown distribution needs an engine, and no more"
  install_world other slackware
  install_fails 1 "has no package of it" --yes --binary "$INSTALL_NEW" "${node[@]}"
  touch "$INSTALL_FAKE/dockerd" && chmod 755 "$INSTALL_FAKE/dockerd"
  install_ok --binary "$INSTALL_NEW" "${node[@]}"
}

install_option_cases() {
  install_world options debian
  echo "-- what makes no sense is refused before anything is done"
  install_fails 64 "no option '--bogus'" --bogus
  install_fails 64 "needs --sha256" --url https://example.org/agent
  install_fails 64 "64 hexadecimal" --url https://example.org/agent --sha256 12
  install_fails 64 "must look like" --controller http://c:6701
  install_fails 64 "is no node yet" --binary "$INSTALL_NEW"
  install_fails 64 "needs a value" --token
  [[ ! -s $INSTALL_LOG && ! -e $INSTALL_ROOT/usr ]]
  echo "-- nor over the quickstart"
  mkdir -p "$INSTALL_ROOT/var/lib/automator67/run"
  touch "$INSTALL_ROOT/var/lib/automator67/run/agent.pid"
  install_fails 1 "quickstart" --binary "$INSTALL_NEW"
}

install_life_cases() {
  local bin sum broken=$WORK/install/broken
  install_world life debian
  bin=$INSTALL_ROOT/usr/local/bin/automator67-agent
  touch "$INSTALL_FAKE/dockerd" && chmod 755 "$INSTALL_FAKE/dockerd"
  echo "-- a refused token leaves no node, and a good one makes it"
  install_fails 1 "could not be enrolled" --binary "$INSTALL_OLD" --controller https://c:6701 --token refused
  not_asked "systemctl restart"
  install_ok --binary "$INSTALL_OLD" --controller https://c:6701 --token sesame --name web-1 --address 192.0.2.7
  grep -q -- "enrol .*--name web-1" "$INSTALL_LOG"
  grep -qx 'address = "192.0.2.7"' "$INSTALL_ROOT/etc/automator67/agent.toml"
  grep -qx '# the unit of 1.0.0' "$INSTALL_ROOT/etc/systemd/system/automator67-agent.service"
  asked "systemctl enable --quiet automator67-agent.service"
  asked "systemctl restart automator67-agent.service"
  echo "-- again: nothing changes and nothing is restarted"
  echo 'log = "debug"' >>"$INSTALL_ROOT/etc/automator67/agent.toml"
  : >"$INSTALL_LOG"
  install_ok --binary "$INSTALL_OLD"
  not_asked "systemctl restart"
  not_asked "enrol"
  grep -qx 'log = "debug"' "$INSTALL_ROOT/etc/automator67/agent.toml"
  echo "-- an upgrade from a URL, whose sum must be right"
  sum=$(sha256sum <"$INSTALL_NEW" | cut -d ' ' -f 1)
  install_fails 1 "not the one" --url "file://$INSTALL_NEW" --sha256 "${sum//[0-9]/0}"
  cmp "$bin" "$INSTALL_OLD"
  install_ok --url "file://$INSTALL_NEW" --sha256 "$sum"
  cmp "$bin" "$INSTALL_NEW"
  grep -qx '# the unit of 2.0.0' "$INSTALL_ROOT/etc/systemd/system/automator67-agent.service"
  asked "systemctl restart automator67-agent.service"
  not_asked "enrol"
  echo "-- one that does not start gives way to the one before"
  install_agent_make "$broken" "3.0.0 BROKEN"
  install_fails 1 "the one before is back" --binary "$broken"
  cmp "$bin" "$INSTALL_NEW"
  [[ -e $INSTALL_ROOT/active && ! -e $bin.previous ]]
  grep -qx '# the unit of 2.0.0' "$INSTALL_ROOT/etc/systemd/system/automator67-agent.service"
  echo "-- one that does not run at all never gets there"
  echo "nonsense" >"$broken"
  install_fails 1 "does not run on this host" --binary "$broken"
  cmp "$bin" "$INSTALL_NEW"
  echo "-- away: program and unit go, what it knew and its containers stay"
  install_ok --uninstall
  asked "systemctl disable --now automator67-agent.service"
  [[ ! -e $bin && ! -e $INSTALL_ROOT/etc/systemd/system/automator67-agent.service ]]
  [[ -e $INSTALL_ROOT/var/lib/automator67/agent/node.json && -e $INSTALL_ROOT/etc/automator67/agent.toml ]]
  grep -q "containers go on running" "$INSTALL_ROOT/out"
  echo "-- and back, as the same node"
  install_ok --binary "$INSTALL_NEW"
}

stage_install() {
  mkdir -p "$WORK/install"
  INSTALL_OLD=$WORK/install/agent-1 INSTALL_NEW=$WORK/install/agent-2
  install_agent_make "$INSTALL_OLD" 1.0.0
  install_agent_make "$INSTALL_NEW" 2.0.0
  install_option_cases
  install_engine_cases
  install_life_cases
}
