#!/usr/bin/env bash
# Starts or stops a taskmanager on this machine: taskmanager.sh (start|start-foreground|stop|stop-all) [-D key=value]…
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/config.sh"
STREAMD=$(find_binary streamd)
daemon_script taskmanager "$@"
