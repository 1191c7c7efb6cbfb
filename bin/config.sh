# shellcheck shell=bash
# What the launch scripts share: where things are, and how daemons are started, recorded and ended. Sourced, not run.
#
#   STREAMD_CONF_DIR   the directory of streamd.yaml            (conf beside bin)
#   STREAMD_BIN_DIR    the directory of the binaries            (target/release, then target/debug, then PATH)
#   STREAMD_DATA_DIR   where the cluster keeps its files        (process.working-dir)
#   STREAMD_LOG_DIR    where logs go                            (env.log.dir)
#   STREAMD_PID_DIR    where process ids are recorded           (env.pid.dir)
#
# Two clusters on one machine need two data directories and two ports (0 picks a free one).

set -euo pipefail

STREAMD_HOME="$(cd -P "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
export STREAMD_CONF_DIR="${STREAMD_CONF_DIR:-$STREAMD_HOME/conf}"

# How long a daemon may take to end before it is killed, and to start before the script gives up, in fiftieths of a second.
STOP_PATIENCE=1500
START_PATIENCE=500

fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# find_binary NAME: the path of a binary of streamd.
find_binary() {
    local name=$1 directory candidate
    local build="${CARGO_TARGET_DIR:-$STREAMD_HOME/target}"
    if [ -n "${STREAMD_BIN_DIR:-}" ]; then
        [ -x "$STREAMD_BIN_DIR/$name" ] || fail "there is no program \`$name\` in STREAMD_BIN_DIR \`$STREAMD_BIN_DIR\`"
        printf '%s\n' "$STREAMD_BIN_DIR/$name"
        return
    fi
    for directory in "$build/release" "$build/debug"; do
        if [ -x "$directory/$name" ]; then
            printf '%s\n' "$directory/$name"
            return
        fi
    done
    # These scripts may be on the PATH too, and must not find themselves.
    while IFS= read -r candidate; do
        if [ "$(readlink -f "$candidate")" != "$STREAMD_HOME/bin/$name" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done < <(type -ap "$name" || true)
    fail "the program \`$name\` is not built" "run \`cargo build --release\`, or name its directory in STREAMD_BIN_DIR"
}

# start_time PID: when a process was started, as text; nothing if it is gone. Tells a process from a later one with its id.
start_time() {
    if [ -r "/proc/$1/stat" ]; then
        # The name in parentheses may hold anything; the fields are counted after it. Field 3 is the state.
        local stat
        stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
        # shellcheck disable=SC2086 # the fields are split on purpose
        set -- ${stat##*) }
        [ "$1" = Z ] || printf '%s\n' "${20}"
    elif [ ! -d /proc/self ]; then
        ps -o lstart= -p "$1" 2>/dev/null || true
    fi
}

# is_alive FILE: whether the process that the pid file records still runs.
is_alive() {
    local pid started
    { read -r pid && read -r started; } 2>/dev/null <"$1" || return 1
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ]
}

# reserve_pid_file KIND: makes a pid file that no other daemon of the kind uses, and prints its path.
reserve_pid_file() {
    local number file
    mkdir -p "$PID_DIR" "$LOG_DIR" || fail "the directories \`$PID_DIR\` and \`$LOG_DIR\` cannot be made"
    for ((number = 0; number < 256; number++)); do
        file="$PID_DIR/$1-$number.pid"
        if [ -e "$file" ] && [ -s "$file" ] && ! is_alive "$file"; then
            rm -f "$file"
        fi
        if (set -o noclobber && : >"$file") 2>/dev/null; then
            printf '%s\n' "$file"
            return
        fi
    done
    fail "no pid file can be made in \`$PID_DIR\`"
}

# load_directories ARGUMENTS…: sets PID_DIR and LOG_DIR to what the configuration says, `-D` arguments included.
load_directories() {
    PID_DIR=$("$STREAMD" config env.pid.dir "$@")
    LOG_DIR=$("$STREAMD" config env.log.dir "$@")
}

# The pid files of the daemons that this script has started.
STARTED=()

# start_daemon KIND ARGUMENTS…: starts a daemon in the background and waits until it says that it is ready, or ends.
# Sets READY to the line it says.
start_daemon() {
    local kind=$1 file name log out pid tries detach=()
    shift
    file=$(reserve_pid_file "$kind")
    name=$(basename "$file" .pid)
    log="$LOG_DIR/$name.log"
    out="$LOG_DIR/$name.out"
    [ ! -s "$log" ] || mv -f "$log" "$log.1"
    : >"$out"
    # A session of its own: Ctrl-C in the terminal that started the cluster must not end it.
    if command -v setsid >/dev/null; then detach=(setsid); fi
    nohup "${detach[@]}" "$STREAMD" "$kind" "$@" >"$out" 2>"$log" </dev/null &
    pid=$!
    printf '%s\n%s\n' "$pid" "$(start_time "$pid")" >"$file"
    STARTED+=("$file")
    for ((tries = 0; tries < START_PATIENCE; tries++)); do
        READY=$(grep -m1 "^$kind " "$out" || true)
        [ -z "$READY" ] || return 0
        if ! kill -0 "$pid" 2>/dev/null; then
            rm -f "$file"
            grep -E '^(error|hint): ' "$log" >&2 || tail -n 5 "$log" >&2
            local code=0
            wait "$pid" || code=$?
            printf 'hint: the whole log is %s\n' "$log" >&2
            exit "$((code == 0 ? 1 : code))"
        fi
        sleep 0.02
    done
    # A task manager may be there before its job manager, and waits for it.
}

# ask_to_end FILE: tells the process that a pid file records to end.
ask_to_end() {
    local pid
    is_alive "$1" || return 0
    read -r pid <"$1"
    printf 'Stopping %s (process %s).\n' "$(basename "$1" .pid)" "$pid"
    kill -TERM "$pid" 2>/dev/null || true
}

# await_end FILE: waits until the process that a pid file records is gone.
await_end() {
    local file=$1 pid tries name
    name=$(basename "$file" .pid)
    if is_alive "$file"; then
        read -r pid <"$file"
        for ((tries = 0; tries < STOP_PATIENCE; tries++)); do
            is_alive "$file" || break
            sleep 0.02
        done
        if is_alive "$file"; then
            printf '%s did not end in time and is killed.\n' "$name" >&2
            kill -KILL "$pid" 2>/dev/null || true
        fi
    fi
    rm -f "$file"
}

# pid_files KIND: the pid files of all daemons of a kind, the one that was started last first.
pid_files() {
    local file
    for file in "$PID_DIR/$1"-*.pid; do
        [ ! -e "$file" ] || printf '%s\n' "$file"
    done | sort -t- -k2 -r -V
}

# daemon_script KIND ACTION ARGUMENTS…: what jobmanager.sh and taskmanager.sh do.
daemon_script() {
    local kind=$1 action=${2:-} file files
    [ $# -lt 2 ] && shift 1 || shift 2
    case $action in
    start)
        load_directories "$@"
        start_daemon "$kind" "$@"
        printf 'Started %s.\n' "${READY:-$kind, which has not found its job manager yet}"
        ;;
    start-foreground)
        exec "$STREAMD" "$kind" "$@"
        ;;
    stop | stop-all)
        load_directories "$@"
        files=$(pid_files "$kind")
        [ -n "$files" ] || { printf 'No %s to stop.\n' "$kind"; return 0; }
        [ "$action" = stop-all ] || files=${files%%$'\n'*}
        # All at once: a task manager that hears it first must not have its jobs move to one that is next.
        while IFS= read -r file; do ask_to_end "$file"; done <<<"$files"
        while IFS= read -r file; do await_end "$file"; done <<<"$files"
        ;;
    *)
        printf 'usage: %s.sh (start|start-foreground|stop|stop-all) [-D key=value]…\n' "$kind" >&2
        exit 2
        ;;
    esac
}
