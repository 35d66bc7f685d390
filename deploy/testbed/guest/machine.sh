# shellcheck shell=bash
# The guest as a machine: it boots, runs commands, and is switched off.

QEMU_PID=$RUN_DIR/qemu.pid

machine_up() {
  local started=$SECONDS
  process_pid "$QEMU_PID" >/dev/null && guest_fail "a guest runs already; 'guest.sh down' ends it"
  cp --sparse=always "$IMAGE_DIR/disk.img" "$RUN_DIR/disk.img"
  chmod 0600 "$RUN_DIR/disk.img"
  : >"$RUN_DIR/console.log"
  # Without KVM: it is slow and runs everywhere. Nice, since it may take minutes and
  # two cores; what is lost with a write cache that lies is a copy.
  process_start "$QEMU_PID" "$RUN_DIR/qemu.log" nice -n 10 qemu-system-x86_64 \
    -accel tcg,thread=multi -cpu max -smp "$GUEST_CPUS" -m "$GUEST_MEMORY_MIB" \
    -kernel "$IMAGE_DIR/vmlinuz" -initrd "$IMAGE_DIR/initrd.img" \
    -append "root=/dev/vda rw console=ttyS0 mitigations=off quiet" \
    -drive "file=$RUN_DIR/disk.img,if=virtio,format=raw,cache=unsafe" \
    -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$SSH_PORT-:22" -device virtio-net-pci,netdev=net,romfile= \
    -device virtio-rng-pci -display none -monitor none -serial "file:$RUN_DIR/console.log"
  say "booting (console: $RUN_DIR/console.log)"
  machine_wait
  timing "boot, until the guest's system is running" "$started"
}

# Waits until the guest has started all that it starts, Docker Engine included.
machine_wait() {
  patient 240 machine_ready_or_ended || true
  machine_ready || guest_fail "the guest does not get ready; see $RUN_DIR/console.log and $RUN_DIR/qemu.log"
}

# Degraded counts, too: on a starved machine a terminal nobody needs comes too late.
machine_ready() {
  local states
  states=$(machine_run 'systemctl is-system-running; systemctl is-active docker' 2>/dev/null) || return 1
  [[ $states =~ ^(running|degraded)[[:space:]]active$ ]]
}

machine_ready_or_ended() { machine_ready || ! process_pid "$QEMU_PID" >/dev/null; }

machine_ssh() {
  local program=$1
  shift
  # One connection is kept and shared: to make one takes an emulated processor seconds.
  "$program" -i "$IMAGE_DIR/key" -o BatchMode=yes -o LogLevel=ERROR -o ConnectTimeout=20 \
    -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o ServerAliveInterval=15 -o ServerAliveCountMax=8 \
    -o ControlMaster=auto -o ControlPersist=600 -o ControlPath="$RUN_DIR/ssh.sock" "$@"
}

# machine_run COMMAND: in the guest's shell.
machine_run() { machine_ssh ssh -p "$SSH_PORT" root@127.0.0.1 "$@" </dev/null; }

# machine_put FILE PATH: copies a file into the guest.
machine_put() { machine_ssh scp -q -C -P "$SSH_PORT" "$1" "root@127.0.0.1:$2"; }

machine_disconnect() {
  [[ ! -S $RUN_DIR/ssh.sock ]] || machine_ssh ssh -p "$SSH_PORT" -O exit root@127.0.0.1 2>/dev/null || true
  rm -f "$RUN_DIR/ssh.sock"
}

machine_boot_id() { machine_run cat /proc/sys/kernel/random/boot_id 2>/dev/null; }

# machine_reboot: restarts the guest in order, and waits until it is up again.
machine_reboot() {
  local before started=$SECONDS
  before=$(machine_boot_id)
  machine_run 'systemctl reboot' || true
  machine_disconnect
  patient 120 machine_booted_since "$before" || guest_fail "the guest does not come back; see $RUN_DIR/console.log"
  machine_wait
  timing "restart of the guest, until its system is running" "$started"
}

machine_booted_since() {
  local now
  now=$(machine_boot_id) || { machine_disconnect; return 1; }
  [[ -n $now && $now != "$1" ]]
}

machine_down() {
  machine_disconnect
  process_end "$QEMU_PID" 20 || say "the guest had to be killed"
  rm -f "$RUN_DIR/disk.img"
}

machine_status() {
  local pid
  [[ -e $IMAGE_DIR/recipe ]] && say "image: $IMAGE_DIR" || say "image: none"
  if pid=$(process_pid "$QEMU_PID"); then say "guest: process $pid, ssh at 127.0.0.1:$SSH_PORT"; else say "guest: down"; fi
}
