#!/bin/bash
# Puts the door to a root disk into an initramfs of dracut(8), and what attaches it: aoe-root(7).

check() {
    require_binaries cpio ip nbdkit
}

depends() {
    echo base kernel-network-modules
}

installkernel() {
    hostonly='' instmods nbd aoe overlay 8021q bridge
}

install() {
    local hook loader
    inst_multiple cat cpio ip ln mkdir modprobe mount readlink sleep uname
    inst_binary /usr/lib/aoe-root/aoe-door /usr/sbin/aoe-door
    if [[ -e /usr/lib/klibc/bin/fstype ]]; then # its loader is its library, which dracut does not find
        inst_binary /usr/lib/klibc/bin/fstype /usr/bin/fstype
        for loader in /lib/klibc-*.so; do inst_simple "$loader"; done
    fi
    inst_simple /usr/share/initramfs-tools/scripts/aoe-root /scripts/aoe-root
    inst_script "$moddir/hook.sh" /usr/sbin/aoe-root
    for hook in initqueue/settled:attach initqueue/finished:attached pre-mount:check pre-pivot:finish; do
        echo "/usr/sbin/aoe-root ${hook#*:}" >"$initdir/lib/dracut/hooks/${hook%:*}/20-aoe-root.sh"
    done
    /usr/lib/aoe-root/pack "$initdir/usr/lib/aoe-root.cpio"
    dracut_need_initqueue
}
