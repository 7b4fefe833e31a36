#!/bin/sh
# What is done for `aoeroot=` at a hook of dracut(8), with the functions that every initramfs has: aoe-root(7).
. /scripts/aoe-root

panic=$(aoe_given panic) || panic=''

panic() { # TEXT: as initramfs-tools does it: a shell, unless `panic=` is on the command line
    if [ "$panic" ]; then
        aoe_say "${1#aoe-root: }; the machine starts again, as panic= is given"
        sleep "${panic#-}"
        echo b >/proc/sysrq-trigger
    else
        aoe_shell "${1#aoe-root: }"
    fi
}

words=$(aoe_given aoeroot) || exit 0
case $1 in
attach)
    [ ! -e /dev/aoeroot ] || exit 0
    root=$(aoe_given root) || panic "dracut needs root= on the kernel's command line, too, as root=UUID=..."
    aoe_begin "$words" && aoe_give_rescue
    ;;
attached) [ -e /dev/aoeroot ] ;;
check) aoe_check "${root#block:}" ;;
finish) aoe_end "$NEWROOT" ;;
esac
