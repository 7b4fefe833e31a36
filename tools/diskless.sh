# README, "A machine without a disk", line by line: two storage hosts, and the machine. Sourced by tools/demo.

PATIENCE_S=900 # for what an emulated processor does in a minute, on a machine that does much else
BEAT_S=5        # between two lines, whatever is waited for
LINES=8        # that the machine writes with one fault
AT=.cache/demo/image

# readme BEGINNING: the lines of that section that begin so.
readme() { sed -n '/^## A machine without a disk/,/^## /{/^```sh/,/^```/p}' README.md | grep "^$1"; }

# record NAME: what stands in the record of the image.
record() { sed -n "s/^ \"$1\": \"\(.*\)\",\{0,1\}$/\1/p" "$image.record"; }

# build: the image, unless there is one that is younger than the package in it.
build() {
    local line deb
    image=$AT/node.img
    deb=$(ls -t ../aoe-root_*.deb 2>/dev/null | head -n 1) || true
    [ -n "$deb" ] || { echo "there is no ../aoe-root_*.deb; run: apt-get build-dep . && dpkg-buildpackage -us -uc -b" >&2; exit 2; }
    [ "$image.record" -nt "$deb" ] && return
    need mmdebstrap=mmdebstrap mke2fs=e2fsprogs
    rm -rf "$AT/.."
    mkdir -p "$AT"
    cp "$deb" "$AT/.." # where the line has it
    line=$(readme aoe-cloud)
    echo "An image is built, once; that takes some minutes:"; echo "# $line"
    (cd "$AT" && patiently eval "$line")
    echo
}

# patiently COMMAND...: run it, and say now and then that it still runs.
patiently() {
    local status=0 life beats
    exec {life}> >(beats)
    beats=$!
    "$@" {life}>&- || status=$?
    exec {life}>&-
    wait "$beats"
    return "$status"
}

# beats: a line now and then, until standard input ends, if only because who holds it is gone.
beats() {
    local begun=$SECONDS
    until read -rt $BEAT_S || [ $? -le 128 ]; do echo "... $((SECONDS - begun)) s"; done
}

# still TEXT...: a line with that, where there was none for a while; `begun` is when the wait began, `said` when the last line was.
still() {
    [ $((SECONDS - said)) -ge $BEAT_S ] || return 0
    echo "... $((SECONDS - begun)) s: $*"
    said=$SECONDS
}

# storage NUMBER: a storage host with a copy of the image; the bridge of this side joins them.
storage() {
    ip netns add "storage$1"
    ip link add "port$1" master br0 type veth peer name eth0 netns "storage$1"
    ip link set "port$1" up
    ip -n "storage$1" link set eth0 up
    mkdir -p "$work/storage$1/state"
    patiently cp --sparse=always --reflink=auto "$image" "$work/storage$1/node.img"
}

# typed LINE COMMAND...: becomes what a line of the README starts, by way of a command; it never outlives this shell.
typed() { exec "${@:2}" setpriv --pdeathsig KILL bash -c "exec $1"; }

# start NUMBER: what is typed on a storage host, until it serves.
start() {
    local line begun=$SECONDS said=$SECONDS
    line=$(readme aoe-target | sed -n "$1p")
    echo "storage$1# $line"
    : >"$work/log$1"
    (cd "$work/storage$1" && STATE_DIRECTORY=$PWD/state typed "$line" ip netns exec "storage$1") >"$work/log$1" 2>&1 &
    serving[$1]=$!
    until grep "^e$1\.0: " "$work/log$1"; do
        kill -0 "${serving[$1]}" 2>/dev/null || { cat "$work/log$1" >&2; exit 1; }
        still "storage$1 does not serve yet"
        sleep 0.2
    done
}

# written: for how many seconds the machine has run, a line each time that it has written that.
written() { sed -n 's/.* sh\[[0-9]*\]: \([0-9]*\.[0-9]*\) .*/\1/p' "$work/console"; }

# goes_on COUNT: wait until the machine has written so many lines more. They are shown, and where it is without one.
goes_on() {
    local now begun=$SECONDS said=$SECONDS shown end
    shown=$(written | wc -l) end=$((shown + $1))
    while [ "$shown" -lt "$end" ]; do
        now=$(written | wc -l)
        if [ "$now" -gt "$shown" ]; then
            written | sed -n "$((shown + 1)),${now}s/.*/the machine has run for & s/p"
            shown=$now said=$SECONDS
        fi
        still "$(tail -n 1 "$work/console" | sed 's/\x1b\[[0-9;]*m//g; s/\r//g' | cut -c 1-90)"
        if ! kill -0 "$machine" 2>/dev/null || [ $((SECONDS - begun)) -ge "$PATIENCE_S" ]; then
            tail -n 30 "$work/console" >&2
            echo "the machine does not go on; that is the end of its console" >&2
            exit 1
        fi
        sleep 0.5
    done
    pause=$(written | awk -v from="$((end - $1))" -v to="$end" '
        NR > 1 && NR > from && NR <= to && $1 - last > most { most = $1 - last } { last = $1 } END { printf "%.1f s", most }')
}

# Inside a private network: this side is the switch.
two_primaries() {
    local number line first=$SECONDS
    image=$1
    run
    ip tuntap add dev tap0 mode tap || { echo "no network for a virtual machine; run: modprobe tun" >&2; exit 2; }
    ip link add br0 type bridge
    ip link set br0 up
    ip link set tap0 master br0 up
    export ID LINE EACH_SECOND
    ID=$(record id) LINE=$(record command_line)
    echo "Two storage hosts and a machine at one switch (two network namespaces, QEMU, a bridge)."
    echo; echo "Each storage host serves a copy of its own of $image:"
    for number in 1 2; do
        storage "$number"
        start "$number"
    done
    echo; echo "The machine, which has no disk, is to write each second for how long it has run, with programs that it reads anew:"
    line=$(readme EACH_SECOND)
    echo "# $line"
    eval "$line"
    for number in kernel initramfs; do ln -s "$(realpath "$image.$number")" "$work/node.img.$number"; done
    line=$(readme qemu)
    echo "# $line"
    : >"$work/console"
    (cd "$work" && typed "$line" env) >"$work/console" 2>&1 </dev/null &
    machine=$!
    goes_on 3
    echo; echo "It runs. Without a fault:"
    goes_on $LINES
    echo "- the longest time between two lines was $pause"
    for number in 1 2; do
        echo; echo "storage$number dies (kill -9):"
        { kill -9 "${serving[number]}"; wait "${serving[number]}"; } 2>/dev/null || true
        goes_on $LINES
        echo "- the machine goes on; the longest time between two lines was $pause"
        [ "$number" -eq 2 ] || start "$number"
    done
    echo; echo "demo passed: a machine without a disk goes on when either server of its root dies; shown in $((SECONDS - first)) s"
}
