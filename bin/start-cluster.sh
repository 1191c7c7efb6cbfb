#!/usr/bin/env bash
# Starts a cluster on this machine and waits until it is ready: start-cluster.sh [-D key=value]…
#
# One task manager for each line of conf/workers, or as many as STREAMD_TASK_MANAGERS says.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/config.sh"
STREAMD=$(find_binary streamd)
STREAMCTL=$(find_binary streamctl)

# A cluster that does not come to be ready leaves no part of itself running.
undo() {
    local code=$? file
    [ "$code" -ne 0 ] || return 0
    for file in "${STARTED[@]}"; do ask_to_end "$file" >&2; done
    for file in "${STARTED[@]}"; do await_end "$file" >&2; done
}
trap undo EXIT

# Where commands go by default may be another cluster. Task managers find theirs by the configuration: by its port, or by the
# address that the job manager writes down, also when it is started again and gets another one.
unset STREAMD_JOBMANAGER

# How many task managers.
task_managers() {
    local workers="$STREAMD_CONF_DIR/workers"
    if [ -n "${STREAMD_TASK_MANAGERS:-}" ]; then
        case $STREAMD_TASK_MANAGERS in
        *[!0-9]*) fail "STREAMD_TASK_MANAGERS is \`$STREAMD_TASK_MANAGERS\`, not a number" ;;
        *) printf '%s\n' "$STREAMD_TASK_MANAGERS" ;;
        esac
    elif [ -f "$workers" ]; then
        if grep -vE '^[[:space:]]*(#|$|localhost[[:space:]]*$)' "$workers" >&2; then
            fail "$workers names other machines" "run \`bin/taskmanager.sh start\` there"
        fi
        grep -cE '^[[:space:]]*localhost' "$workers" || true
    else
        printf '1\n'
    fi
}

count=$(task_managers)
load_directories "$@"
printf 'Starting cluster.\n'
start_daemon jobmanager "$@"
[ -n "$READY" ] || fail "the job manager does not say that it is ready" "its log is in $LOG_DIR"
address=${READY#jobmanager }
printf 'Started job manager at %s.\n' "$address"
for ((started = 0; started < count; started++)); do
    start_daemon taskmanager "$@"
done
"$STREAMCTL" -m "$address" cluster wait --task-managers "$count" --timeout "${STREAMD_START_TIMEOUT:-30s}"
