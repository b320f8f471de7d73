#!/bin/busybox sh
# The guest's first process: loads modules, runs what /plan lists, and reports on the second serial port.
export PATH=/usr/bin:/bin HOME=/root TMPDIR=/tmp CI=vm RUST_BACKTRACE=1 JPAT_CYCLES=3 JPAT_EVERY=7 JPAT_ORACLE_PACKETS=4000 JPAT_SLOWNESS=12 JPATD=/usr/bin/jpatd JPAT=/usr/bin/jpat
/bin/busybox mkdir -p /bin /proc /sys /dev /run /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t tmpfs -o mode=0755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
port=/dev/ttyS1
stty -F $port raw -echo
say() { printf '\n@@jpat %s\n' "$*" >$port; }

say "release $(uname -r)"
while read -r module; do
    insmod "/modules/$module" 2>/run/refused || say "fault insmod $module: $(cat /run/refused)"
done </modules/order
ip link set lo up || say "fault lo: there is no loopback"

while read -r number bound command; do
    say "begin $number"
    timeout -s KILL "$bound" $command --color never --logfile $port </dev/null >/run/output 2>&1
    say "end $number $?"
    sed 's/^/@@out /' </run/output >$port
done </plan
say "done"
sync
# The port is written out when the last reader of it has closed.
poweroff -f
