#!/usr/bin/env bash
# Stops the cluster that start-cluster.sh started with the same directories: stop-cluster.sh [-D key=value]…
#
# The job manager goes first: it suspends its jobs in order, instead of seeing their task managers vanish.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/config.sh"
STREAMD=$(find_binary streamd)
daemon_script jobmanager stop-all "$@"
daemon_script taskmanager stop-all "$@"
