# shellcheck shell=bash
# Images for tests, made from the distribution's static busybox, and the registry.

registry_pidfile() { printf '%s/run/registry.pid\n' "$TB_DIR"; }

registry_answers() { curl -s -o /dev/null --max-time 2 "http://$TB_REGISTRY/v2/"; }

registry_up() {
  process_pid "$(registry_pidfile)" >/dev/null && return 0
  mkdir -p "$TB_DIR/registry"
  cat >"$TB_DIR/registry.yml" <<YAML
version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: $TB_DIR/registry
  delete:
    enabled: true
http:
  addr: $TB_REGISTRY
YAML
  process_start "$(registry_pidfile)" "$TB_DIR/registry.log" docker-registry serve "$TB_DIR/registry.yml"
  wait_until 30 registry_answers || tb_fail "the registry did not start; its log is $TB_DIR/registry.log"
}

# image_archive NAME:TAG FILE: writes an archive for `docker load` with busybox
# and all its commands. Made by hand and without times, so that the same name
# has the same image id on every host and in every run.
image_archive() {
  local reference=$1 file=$2 work layer
  if ldd /bin/busybox >/dev/null 2>&1; then
    tb_fail "/bin/busybox needs shared libraries, which the image would not have; install busybox-static"
  fi
  work=$(mktemp -d)
  mkdir -p "$work"/root/{bin,etc,tmp,www,root} "$work/archive"
  cp /bin/busybox "$work/root/bin/busybox"
  local command
  for command in $("$work/root/bin/busybox" --list); do
    [[ $command == busybox ]] || ln -s busybox "$work/root/bin/$command"
  done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$work/root/etc/passwd"
  echo 'root:x:0:' >"$work/root/etc/group"
  printf '%s\n' "$reference" >"$work/root/www/index.html"
  chmod 1777 "$work/root/tmp"
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work/root" -cf "$work/archive/layer.tar" .
  layer=$(sha256sum "$work/archive/layer.tar" | cut -d' ' -f1)
  printf '%s' '{"architecture":"'"$(image_architecture)"'","os":"linux","created":"1970-01-01T00:00:00Z",' \
    '"config":{"Cmd":["/bin/sh"],"Env":["PATH=/bin"]},' \
    '"rootfs":{"type":"layers","diff_ids":["sha256:'"$layer"'"]}}' >"$work/archive/config.json"
  printf '%s' '[{"Config":"config.json","RepoTags":["'"$reference"'"],"Layers":["layer.tar"]}]' \
    >"$work/archive/manifest.json"
  tar -C "$work/archive" -cf "$file" manifest.json config.json layer.tar
  rm -rf "$work"
}

image_architecture() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
  esac
}

# image_import HOST|all NAME TAG
image_import() {
  local hosts=$1 reference=$2:$3 archive host
  [[ $hosts == all ]] && hosts=$(hosts_list)
  archive=$(mktemp "$TB_DIR/archive.XXXXXX")
  image_archive "$reference" "$archive"
  for host in $hosts; do
    host_require "$host"
    host_docker "$host" load -q -i "$archive"
  done
  rm -f "$archive"
}

# image_push HOST NAME TAG: puts a host's image into the registry, and prints
# the name under which every host can pull it.
image_push() {
  local host=$1 local_name=$2:$3 remote_name=$TB_REGISTRY/$2:$3
  host_docker "$host" tag "$local_name" "$remote_name"
  host_docker "$host" push -q "$remote_name" >&2
  host_docker "$host" rmi "$remote_name" >/dev/null
  printf '%s\n' "$remote_name"
}
