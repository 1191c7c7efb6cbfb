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

# want_command COMMAND PACKAGE: the same, for what one test less is no harm without: it says so then.
want_command() {
    command -v "$1" >/dev/null 2>&1 || (need_package "$2") || echo "going on without $1" >&2
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

# need_object_stores: the servers that the tests of object storage and of leadership start, under ~/.cache/streamd/servers and in the
# environment of need_python_modules, which goes before. MinIO and Kubernetes take minutes to build, and are had with
# STREAMD_TEST_MINIO=1 and STREAMD_TEST_KUBERNETES=1 only.
need_object_stores() {
    local servers="${XDG_CACHE_HOME:-$HOME/.cache}/streamd/servers"
    mkdir -p "$servers"
    if ! "$STREAMD_PYTHON" -c "import moto.server, moto.s3.responses" >/dev/null 2>&1; then
        echo "installing moto from PyPI, to test S3" >&2
        "$STREAMD_PYTHON" -m pip install --quiet --disable-pip-version-check 'moto[server]' >&2
    fi
    need_command npm npm
    if [ ! -d "$servers/azurite/node_modules/azurite" ]; then
        echo "installing azurite from npm, to test Azure's storage" >&2
        npm install --prefix "$servers/azurite" --no-audit --no-fund --silent azurite@3.37.0 >&2
    fi
    need_command javac default-jdk-headless
    need_command mvn maven
    if [ ! -d "$servers/hdfs/jars" ]; then
        echo "installing hadoop-client-minicluster from Maven Central, to test HDFS" >&2
        mvn -q -B -f tests/servers/hdfs/pom.xml dependency:copy-dependencies -DoutputDirectory="$servers/hdfs/jars.partial" >&2
        mv "$servers/hdfs/jars.partial" "$servers/hdfs/jars"
    fi
    if [ ! -d "$servers/kubernetes/jars" ]; then
        echo "installing fabric8's kubernetes-server-mock from Maven Central, to test leadership by a Lease" >&2
        mvn -q -B -f tests/servers/kubernetes/pom.xml dependency:copy-dependencies \
            -DoutputDirectory="$servers/kubernetes/jars.partial" >&2
        mv "$servers/kubernetes/jars.partial" "$servers/kubernetes/jars"
    fi
    if [ "${STREAMD_TEST_MINIO:-0}" = 1 ] && [ ! -x "$servers/bin/minio" ]; then
        echo "building MinIO from its Go module, to test S3" >&2
        GOBIN="$servers/bin" go install -trimpath -ldflags "-s -w" github.com/minio/minio@latest >&2
    fi
    [ "${STREAMD_TEST_KUBERNETES:-0}" != 1 ] || need_kubernetes "$servers"
}

# need_kubernetes FOLDER: kube-apiserver and etcd, built from their Go modules.
need_kubernetes() {
    local build
    if [ -x "$1/bin/kube-apiserver" ] && [ -x "$1/bin/etcd" ]; then
        return
    fi
    echo "building kube-apiserver and etcd from their Go modules, to test leadership by a Lease" >&2
    need_command openssl openssl
    build="$(mktemp -d)"
    cp tests/servers/kubernetes/go.mod "$build"
    mkdir -p "$1/bin"
    local version
    version="$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$build/go.mod")"
    (
        cd "$build"
        export GOFLAGS="${GOFLAGS:-} -mod=mod"
        go build -trimpath -ldflags "-s -w" -o "$1/bin/etcd" go.etcd.io/etcd/server/v3
        # The last, which says that both are there.
        go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" \
            -o "$1/bin/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
    ) >&2
    rm -rf "$build"
}

# need_clang: what RocksDB is built with: its bindings need libclang, and clang++ takes two thirds of the time that g++ takes.
need_clang() {
    need_command clang++ clang
    export CXX=clang++
}

# need_cargo_tool COMMAND [PACKAGE]: a command of cargo's, or another, from crates.io; PACKAGE where it is named otherwise.
need_cargo_tool() {
    command -v "$1" >/dev/null 2>&1 && return
    local package="${2:-$1}"
    echo "installing $package from crates.io" >&2
    if ! cargo install --quiet --locked "$package" >&2; then
        echo "error: $package is needed and could not be installed" >&2
        echo "hint: cargo install --locked $package, and run this again" >&2
        exit 1
    fi
}
