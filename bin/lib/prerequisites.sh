# What the scripts need, installed when it is missing. Sourced, not run.

# The Rust toolchain is the one thing that is not installed here.
need_rust() {
    if ! command -v cargo >/dev/null 2>&1; then
        echo "error: cargo is not installed" >&2
        echo "hint: install the Rust toolchain (1.95 or newer) as https://rustup.rs says, and run this again" >&2
        exit 1
    fi
}

# need_command COMMAND PACKAGE: installs Debian's PACKAGE where COMMAND is missing.
need_command() {
    command -v "$1" >/dev/null 2>&1 || need_package "$2"
}

# need_package PACKAGE: installs a package of Debian's.
need_package() {
    echo "installing the package $1" >&2
    local sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    if ! { $sudo apt-get update -qq && $sudo apt-get install -y -qq "$1"; } >&2; then
        echo "error: the package $1 is needed and could not be installed" >&2
        echo "hint: install it with your package manager, and run this again" >&2
        exit 1
    fi
}

# need_python_modules MODULE…: a virtual environment with these modules from PyPI; STREAMD_PYTHON is its interpreter.
need_python_modules() {
    local environment="${XDG_CACHE_HOME:-$HOME/.cache}/streamd/python"
    export STREAMD_PYTHON="$environment/bin/python"
    local probe="import $(echo "$*" | tr ' ' ',')"
    if [ -x "$STREAMD_PYTHON" ] && "$STREAMD_PYTHON" -c "$probe" >/dev/null 2>&1; then
        return
    fi
    echo "installing $* from PyPI, to read savepoints with tools that are not ours" >&2
    if ! python3 -m venv "$environment" >/dev/null 2>&1; then
        need_package python3-venv
        python3 -m venv "$environment"
    fi
    "$environment/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
}
