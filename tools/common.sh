# common.sh - what demo.sh and check.sh share: install what is missing, build in ./build.
# Read with `.`; expects $top to be the source folder.  Nothing is left outside of it.

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$0" "$*" >&2; exit 1; }

# package:why, a line each.  Only what is missing is installed.
needed='gcc:the C compiler
make:runs the build
autoconf:makes configure
automake:makes Makefile.in
pkg-config:finds the libraries
libc6-dev:the C library to build with
libinih-dev:reads recipes
libjansson-dev:reads and writes config.json
libssl-dev:SHA-256 of what is written
libpcre2-dev:the patterns that engines match names with
libhdf5-dev:calibration statistics
xz-utils:packs the release in make distcheck'

missing_packages() {
    printf '%s\n' "$needed" | while IFS=: read -r package why; do
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        'install ok installed') ;;
        *) # pkg-config may come as pkgconf, gcc as another version
            case $package in
            pkg-config | gcc | make | autoconf | automake)
                command -v "$package" >/dev/null 2>&1 && continue ;;
            esac
            printf '%s\n' "$package" ;;
        esac
    done
}

install_missing() {
    if ! command -v dpkg-query >/dev/null 2>&1; then
        say "This is no Debian: see that these are installed (under the names of your system):"
        printf '%s\n' "$needed" | sed 's/^\([^:]*\):/  \1: /'
        return 0
    fi
    packages=$(missing_packages)
    [ -n "$packages" ] || return 0
    say "Installing from Debian with apt-get, because it is missing here:"
    for package in $packages; do
        say "  $package: $(printf '%s\n' "$needed" | sed -n "s/^$package://p")"
    done
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 ||
            die "not root and no sudo: as root run: apt-get install" $packages
        as_root=sudo
    fi
    log=$build/apt.log
    mkdir -p "$build"
    # shellcheck disable=SC2086 # a list of words is meant
    get() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >>"$log" 2>&1; }
    get install -y --no-install-recommends $packages ||
        { get update && get install -y --no-install-recommends $packages; } ||
        { tail -n 20 "$log" >&2; die "apt-get failed; $log has its words"; }
}

processors() { nproc 2>/dev/null || echo 2; }

# make_configure: configure and Makefile.in, when they are missing or older than their sources.
make_configure() {
    newer=$(find "$top/configure.ac" "$top/Makefile.am" "$top/m4" "$top"/*/local.mk \
        -newer "$top/configure" 2>/dev/null | head -n 1)
    if [ ! -f "$top/configure" ] || [ -n "$newer" ]; then
        mkdir -p "$build"
        sh "$top/autogen.sh" >"$build/autogen.log" 2>&1 ||
            { tail -n 20 "$build/autogen.log" >&2; die "autogen.sh failed"; }
    fi
}

# build_in FOLDER [configure options]: configure once, make always.
build_in() {
    folder=$1
    shift
    mkdir -p "$folder"
    if [ ! -f "$folder/Makefile" ] || [ "$(cat "$folder/options" 2>/dev/null)" != "$*" ]; then
        (cd "$folder" && "$top/configure" "$@") >"$folder/configure.log" 2>&1 ||
            { tail -n 20 "$folder/configure.log" >&2; return 1; }
        printf '%s' "$*" >"$folder/options"
    fi
    make -C "$folder" -j "$(processors)" >"$folder/make.log" 2>&1 ||
        { grep -E 'error|Error|undefined' "$folder/make.log" | head -n 20 >&2; return 1; }
}
