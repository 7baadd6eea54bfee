# What `gen-topology lab` starts and calls: the list of `gen-topology doctor`, and mongod.
pkgs: [
  pkgs.haproxy
  pkgs.iproute2
  pkgs.keepalived
  pkgs.mongodb-ce
  pkgs.nftables
  pkgs.nginx
  pkgs.python3
  pkgs.python3Packages.supervisor
  pkgs.util-linux
]
