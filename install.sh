#!/bin/sh
# Install syncd for one user, without admin rights: macOS and Linux. Shows what it would do, asks, then does it.
#
#   sh install.sh                  show the steps, ask, install
#   sh install.sh --dry-run        show the steps only
#   sh install.sh --uninstall      take the programs and the service away; settings, state and files stay
#   sh install.sh --uninstall --purge    settings and state too; mirrored files stay in any case
#
# Where no Python is 3.11 or newer, uv fetches one for this user alone. To get uv, a Mac needs nothing but what macOS
# brings (curl, shasum, unzip); Linux needs a Python of any age from 3.8.
set -eu

VERSION_NEEDED="3.11"
PYTHON_FETCHED="3.12"
UV="uv==0.13.9"
# the same uv for a Mac: where its wheel lies at PyPI, and the SHA-256 of that
UV_AT="https://files.pythonhosted.org/packages"
UV_ARM64="f3/a7/a8d7b074798c7fb3b26b37584b8fe2e29df2ccdc24ce7902caab2a53edbf/uv-0.13.9-py3-none-macosx_11_0_arm64.whl"
UV_ARM64_SUM="66c512266d633bef48384a1f53003f41f2a8e7b36fe6e7fbfd3e0fd52d96fa63"
UV_X86_64="1e/db/08e9ef4879bd667e6d7b4705e594e5bd3e4585f10fc63cb16b9fa2fac63e/uv-0.13.9-py3-none-macosx_10_12_x86_64.whl"
UV_X86_64_SUM="c16ed11e013557536b3e60065f1b912f6407bd6518e041b961e23ef9e6b4fbf5"

here=$(cd "$(dirname "$0")" && pwd)
prefix="${HOME:?HOME is not set}/.local/share/syncd"
bin="$HOME/.local/bin"
python=""
dry_run=no
yes=no
uninstall=no
purge=no

say() { printf '%s\n' "$*"; }
quoted() { # one word of a command that is to be typed
    case "$1" in
        "" | *[!A-Za-z0-9_./@%+=:,-]*) printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf '%s' "$1" ;;
    esac
}
again="sh $(quoted "$0")"
fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  next: %s\n' "$2" >&2
    exit 1
}
usage() {
    say "usage: sh install.sh [--dry-run] [--yes] [--prefix DIR] [--bin DIR] [--python PROGRAM]"
    say "       sh install.sh --uninstall [--purge] [--dry-run] [--yes] [--prefix DIR] [--bin DIR]"
}
help() {
    say "Install syncd for this user, without admin rights; or take it away again."
    usage
    say "  --dry-run         show the steps, do nothing"
    say "  --yes             do not ask"
    say "  --prefix DIR      where it is installed (~/.local/share/syncd)"
    say "  --bin DIR         where syncd and worker-glue are linked (~/.local/bin)"
    say "  --python PROGRAM  the Python to use, from $VERSION_NEEDED on (one on the PATH, else one that uv fetches)"
    say "  --uninstall       take programs and services away; settings, catalogue and mirrored files stay"
    say "  --purge           settings, passwords, catalogue and logs too; mirrored files stay in any case"
}
ask() {
    [ "$yes" = no ] || return 0
    printf '%s [y/N] ' "$1"
    read -r answer || answer=no
    case "$answer" in
        y | Y | yes | Yes) ;;
        *) say "Nothing was changed." && exit 0 ;;
    esac
}

while [ $# -gt 0 ]; do
    case "$1" in
        --dry-run) dry_run=yes ;;
        --yes) yes=yes ;;
        --uninstall) uninstall=yes ;;
        --purge) purge=yes ;;
        --prefix | --bin | --python)
            [ $# -gt 1 ] || fail "$1 needs a value" "$again --help"
            case "$1" in
                --prefix) prefix=$2 ;;
                --bin) bin=$2 ;;
                *) python=$2 ;;
            esac
            shift
            ;;
        -h | --help) help && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ "$purge" = no ] || [ "$uninstall" = yes ] || fail "--purge goes with --uninstall" "$again --uninstall --purge --dry-run"
absolute() { # links and hints are to hold in every folder
    case "$2" in
        /*) ;;
        *) fail "$1 has to be an absolute path: $2" "$1 $(quoted "$PWD/$2")" ;;
    esac
}
absolute --prefix "$prefix"
absolute --bin "$bin"
prefix=${prefix%/}
bin=${bin%/}

state="$HOME/.local/state/syncd"
system=$(uname)
if [ "$system" = Darwin ]; then
    settings="$HOME/Library/Application Support/syncd"
    logs="$HOME/Library/Logs/syncd"
else
    settings="${XDG_CONFIG_HOME:-$HOME/.config}/syncd"
    logs="" # the journal's
fi

# --- taking it away ------------------------------------------------------------------------------------------------

is_ours() { # whether a link in $bin leads into $prefix
    [ -L "$1" ] || return 1
    case "$(readlink "$1")" in
        "$prefix"/*) return 0 ;;
        *) return 1 ;;
    esac
}

service_files() { # the property lists and units that start a syncd from here
    for each in "$HOME/Library/LaunchAgents"/*.plist "$HOME/.config/systemd/user"/*.service; do
        if [ -f "$each" ] && grep -qF "Installed by: syncd service install" "$each"; then
            ! grep -qF -e "$bin/syncd" -e "$prefix/" "$each" || printf '%s\n' "$each"
        fi
    done
}
name_of() { # the service's name, from its file
    name=${1##*/}
    name=${name%.service}
    name=${name%.plist}
    printf '%s\n' "${name#local.}"
}
is_there() { # whether anything of an installation is
    for name in current versions uv python; do
        [ ! -e "$prefix/$name" ] || return 0
    done
    return 1
}

if [ "$uninstall" = yes ]; then
    is_there || [ "$purge" = yes ] || fail "syncd is not installed in $prefix" "--prefix DIR, if it is elsewhere"
    say "This goes:"
    service_files | while IFS= read -r each; do
        say "  the service $(name_of "$each"), $each"
    done
    for name in syncd worker-glue; do
        ! is_ours "$bin/$name" || say "  $bin/$name"
    done
    for name in versions current uv python; do
        [ ! -e "$prefix/$name" ] || say "  $prefix/$name"
    done
    if [ "$purge" = yes ]; then
        [ ! -e "$settings" ] || say "  $settings (settings and passwords)"
        [ ! -e "$state" ] || say "  $state (catalogue, reports)"
        [ ! -e "$logs" ] || say "  $logs (logs)"
    else
        say "Settings and state stay ($settings, $state${logs:+, $logs}); --purge takes them too."
    fi
    say "Mirrored files stay where they are."
    for each in "$prefix" "$settings" "$state"; do
        [ -d "$each" ] || continue
        found=$(find "$each" -path '*/.syncd/owner' | head -n 1)
        [ -z "$found" ] || fail "there is a mirror in $each (${found%/.syncd/owner})" "move it elsewhere first, with its .syncd"
    done
    [ "$dry_run" = no ] || exit 0
    ask "Go on?"
    services=$(service_files)
    while IFS= read -r each; do
        [ -n "$each" ] || continue
        if [ ! -x "$prefix/current/bin/syncd" ]; then
            say "$each stays: the syncd that knows how to end it is gone already"
            continue
        fi
        code=0
        "$prefix/current/bin/syncd" service uninstall --name "$(name_of "$each")" </dev/null || code=$?
        # 2: there is nothing here that manages services, so it does not run either
        [ "$code" != 2 ] || say "$each stays"
        [ "$code" = 0 ] || [ "$code" = 2 ] || fail "the service could not be taken away" "see above; then run this again"
    done <<EOF
$services
EOF
    for name in syncd worker-glue; do
        ! is_ours "$bin/$name" || rm -f "$bin/$name"
    done
    rm -rf "$prefix/versions" "$prefix/current" "$prefix/uv" "$prefix/python"
    [ ! -d "$prefix" ] || rmdir "$prefix" 2>/dev/null || say "$prefix has other things in it, and stays"
    if [ "$purge" = yes ]; then
        rm -rf "$settings" "$state" ${logs:+"$logs"}
    fi
    say "Done."
    exit 0
fi

# --- installing ----------------------------------------------------------------------------------------------------

[ -f "$here/requirements/runtime.lock" ] || fail "$here is not syncd's folder" "run install.sh where it was unpacked"

is_python() { # without its developer tools, which only an admin can install, macOS has a python3 that asks for them
    command -v "$1" >/dev/null 2>&1 || return 1
    [ "$system" = Darwin ] || return 0
    case "$(command -v "$1")" in
        /usr/bin/*) xcode-select -p >/dev/null 2>&1 ;;
    esac
}
is_new_enough() {
    "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$VERSION_NEEDED'.split('.'))))" 2>/dev/null
}

if [ -n "$python" ]; then
    is_new_enough "$python" || fail "$python is not Python $VERSION_NEEDED or newer" "name another one with --python"
else
    for each in python3.14 python3.13 python3.12 python3.11 python3 "$prefix"/python/*/bin/python3; do
        if is_python "$each" && is_new_enough "$each"; then
            python=$(command -v "$each")
            break
        fi
    done
fi
old=""
if [ -z "$python" ] && [ "$system" != Darwin ]; then
    old=$(command -v python3) || fail "there is no python3" "ask for it: Debian: apt-get install python3 python3-venv"
fi

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/syncd/__init__.py")
target="$prefix/versions/$version-$(date -u +%Y%m%dT%H%M%S)"
for name in syncd worker-glue; do
    if [ -e "$bin/$name" ] && ! is_ours "$bin/$name"; then
        fail "$bin/$name is there already, and not from here" "take it away, or choose another folder with --bin"
    fi
done
say "Steps:"
if [ -n "$python" ]; then
    say "  1. use $python"
else
    say "  1. fetch Python $PYTHON_FETCHED with uv into $prefix/python (there is none from $VERSION_NEEDED on)"
fi
say "  2. install syncd $version and the locked versions of what it needs into $target"
say "  3. link $bin/syncd and $bin/worker-glue to it"
[ "$dry_run" = no ] || exit 0
ask "Go on?"

umask 022
mkdir -p "$prefix/versions" "$bin"
fetch_uv() {
    if [ "$system" != Darwin ]; then
        "$old" -m venv "$prefix/uv" || fail "$old cannot make a virtual environment" "Debian: apt-get install python3-venv"
        "$prefix/uv/bin/python" -m pip install --quiet --disable-pip-version-check "$UV" || fail "uv cannot be fetched" "check the network"
        return
    fi
    case "$(uname -m)" in
        arm64) wheel=$UV_ARM64 sum=$UV_ARM64_SUM ;;
        *) wheel=$UV_X86_64 sum=$UV_X86_64_SUM ;;
    esac
    mkdir -p "$prefix/uv/bin"
    curl --fail --silent --show-error --location --output "$prefix/uv/uv.whl" "$UV_AT/$wheel" ||
        fail "uv cannot be fetched from $UV_AT" "check the network"
    case "$(shasum -a 256 "$prefix/uv/uv.whl")" in
        "$sum "*) ;;
        *)
            rm -f "$prefix/uv/uv.whl"
            fail "what came as uv from $UV_AT is not uv: its SHA-256 is another" "is there a proxy that answers in its place?"
            ;;
    esac
    unzip -q -o -j "$prefix/uv/uv.whl" "uv-*/scripts/uv" -d "$prefix/uv/bin"
    rm -f "$prefix/uv/uv.whl"
    chmod +x "$prefix/uv/bin/uv"
}
if [ -z "$python" ]; then
    fetch_uv
    # --no-bin: else it puts a python3.12 beside our links; and its cache is no longer of use
    "$prefix/uv/bin/uv" python install --quiet --no-bin --no-config --no-cache --install-dir "$prefix/python" "$PYTHON_FETCHED" ||
        fail "uv cannot fetch Python $PYTHON_FETCHED" "check the network, or name a Python with --python"
    rm -rf "$prefix/uv"
    python=$(find "$prefix/python" -path '*/bin/python3' | head -n 1)
    [ -n "$python" ] || fail "uv fetched no Python" "name a Python with --python"
fi

undo() {
    rm -rf "$target"
    fail "$1" "$2"
}
"$python" -m venv "$target" || undo "$python cannot make a virtual environment" "Debian: apt-get install python3-venv"
(
    cd "$target"
    bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r "$here/requirements/build.lock" -r "$here/requirements/runtime.lock" &&
        bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation "$here"
) || undo "the locked versions cannot be installed (see above)" "check the network, then run this again"
"$target/bin/syncd" --version >/dev/null || undo "the installed syncd does not start" "report it, with the lines above"

ln -sfn "$target" "$prefix/current"
for name in syncd worker-glue; do
    ln -sfn "$prefix/current/bin/$name" "$bin/$name"
done
# the version before this one stays, to go back to; what is older goes
find "$prefix/versions" -mindepth 1 -maxdepth 1 -type d -name '*-*' | sort | sed '$d' | sed '$d' | while IFS= read -r each; do
    rm -rf "$each"
done

say "syncd $version is installed."
case ":$PATH:" in
    *":$bin:"*) ;;
    *) say "Your shell does not look into $bin yet: add to its profile  export PATH=$(quoted "$bin"):\"\$PATH\"" ;;
esac
services=$(service_files)
if [ -z "$services" ]; then
    if [ -e "$settings/config.toml" ]; then
        say "  next: $(quoted "$bin/syncd") doctor"
    else
        say "  next: $(quoted "$bin/syncd") init"
    fi
    say "  then: $(quoted "$bin/syncd") service install"
    exit 0
fi
say "  next, since the service runs the version before until then:"
printf '%s\n' "$services" | while IFS= read -r each; do
    if [ "$system" = Darwin ]; then
        say "    launchctl kickstart -k gui/$(id -u)/local.$(quoted "$(name_of "$each")")"
    else
        say "    systemctl --user restart $(quoted "$(name_of "$each")")"
    fi
done
