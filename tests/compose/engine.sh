#!/bin/sh
# A Docker engine of the tests' own, as first process of namespaces: with it go containers, networks,
# rules and mounts. Usage: engine builder|runner DATA RUN
#
# `builder` is in this machine's network, because images are built from registries, and changes nothing
# there. `runner` has a network of its own without a way out, in which Docker may do what it does.
set -eu
kind=$1 data=$2 run=$3
if [ "$kind" = builder ]; then
    set -- --bridge=none --iptables=false --ip-forward=false --ip-masq=false
else
    ip link set lo up
    set --
fi
# Networks that a test left which failed: the builder would make their bridges on this machine.
rm -rf "$data/network"
echo '{}' >"$run/daemon.json"
exec dockerd --data-root "$data" --exec-root "$run/exec" --pidfile "$run/$kind.pid" \
    --host "unix://$run/docker.sock" --config-file "$run/daemon.json" \
    --cgroup-parent /gen-topology-tests --storage-driver overlay2 "$@"
