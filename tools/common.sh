# Set-up that the tools share. Sourced, with the repository as working directory.

venv=.venv

# need COMMAND=PACKAGE...: install what is missing, or say the one line that does, and end.
need() {
    local missing=() pair
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || [ -e "${pair%%=*}" ] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

install_packages() {
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "installing: $*"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    else
        echo "missing system packages; run: sudo apt-get install -y $*" >&2
        exit 2
    fi
}

# make_venv [EXTRA,...]: a virtual environment with this package and the extras' requirements in it, or with more.
make_venv() {
    local extra=${1:+[$1]} python=python3
    need python3=python3
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "Python 3.11 or newer is needed; $($python --version) is here" >&2; exit 2; }
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    local made
    for made in "$venv"/.made-*; do
        has "${made#"$venv"/.made-}" "${1:-plain}" && is_current "$made" && return
    done
    echo "making the virtual environment $venv"
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$venv"
    touch "$venv/.begun" # what changes from now on may not be in it
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extra"
    mv "$venv/.begun" "$venv/.made-${1:-plain}"
}

# has EXTRAS EXTRAS: whether the first ones are all of the others; `plain` is none.
has() {
    local extra
    for extra in ${2//,/ }; do
        case ,plain,$1, in *,$extra,*) ;; *) return 1 ;; esac
    done
}

# is_current STAMP: whether what the environment was made of then is what is here now, and it works.
is_current() {
    [ -e "$1" ] && [ -z "$(find pyproject.toml setup.py csrc -newer "$1")" ] && "$venv/bin/python" -c 'import aoe' 2>/dev/null
}

# need_compiler: what the engine is built with.
need_compiler() {
    need gcc=gcc /usr/include/liburing.h=liburing-dev
    python3 -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        install_packages python3-dev
}

# can_isolate: whether this user may have a network of his own.
can_isolate() { unshare $(isolation) true 2>/dev/null; }

# isolation: how unshare gives this user one; root needs no user namespace for it.
isolation() {
    [ "$(id -u)" -eq 0 ] || printf '%s ' --user --map-root-user
    echo --net --mount
}

# isolated COMMAND...: run it as root of a network of its own, where `ip netns` works and there is a loopback.
isolated() {
    unshare $(isolation) sh -c 'mount -t tmpfs none /run && export PATH="$PATH:/usr/sbin:/sbin" && ip link set lo up && exec "$@"' sh "$@"
}
