# The whole stack as QEMU virtual machines on one network, without root.
#
# The network is a multicast socket on the loopback interface: each QEMU hears each
# frame, as on a hub. One more QEMU, without a machine, joins it with QEMU's user-mode
# network and forwards a port of this host to the virtual IP, whichever node has it.
{
  lib,
  pkgs,
  topology,
  facts,
  nixosConfigurations,
}:
let
  # Addresses as numbers, to find two that nobody has.
  octets = address: map lib.toInt (lib.splitString "." address);
  toNumber = address: lib.foldl' (number: octet: number * 256 + octet) 0 (octets address);
  toAddress =
    number:
    lib.concatMapStringsSep "." (shift: toString (lib.mod (number / shift) 256)) [
      16777216
      65536
      256
      1
    ];

  subnet = lib.splitString "/" topology.network.subnet;
  first = toNumber (lib.head subnet);
  size = lib.foldl' (size: _: size * 2) 1 (lib.range 1 (32 - lib.toInt (lib.last subnet)));
  taken = map toNumber (
    [ topology.network.virtual_ip ] ++ lib.mapAttrsToList (_: node: node.address) facts
  );
  # Looked for from the top: people hand out addresses from below.
  free = lib.filter (number: !lib.elem number taken) (
    lib.genList (index: first + size - 2 - index) (lib.min (size - 2) (lib.length taken + 2))
  );
  # QEMU's own two addresses: where forwarded connections come from, and a name server that nobody asks.
  host = toAddress (lib.elemAt free 0);
  nameServer = toAddress (lib.elemAt free 1);

  # The same on every load balancer.
  port =
    (lib.head (lib.filter (node: node.load_balancer or null != null) (lib.attrValues facts)))
    .load_balancer.port;

  # Unique on the network and the same at each start.
  mac =
    address:
    lib.concatMapStringsSep ":" (octet: lib.fixedWidthString 2 "0" (lib.toHexString octet)) (
      [
        82
        84
      ]
      ++ octets address
    );

  machines = lib.mapAttrs (
    name: machine:
    (machine.extendModules {
      modules = [
        {
          # Of qemu-vm.nix, and there only: a plain NixOS has none of these.
          virtualisation.vmVariant.virtualisation = {
            graphics = false;
            memorySize = lib.mkDefault (if facts.${name}.tier == "database" then 2048 else 768);
            diskSize = lib.mkDefault 4096;
            # Made by this host's program, for these machines only.
            sharedDirectories.secrets = {
              source = ''"$GEN_TOPOLOGY_VMS_SECRETS"'';
              target = "/var/lib/gen-topology/secrets";
            };
            # Instead of the user-mode card, so that the first and only card is the node's eth0.
            qemu.networkingOptions = lib.mkForce [
              ''-netdev socket,id=stack,mcast="$GEN_TOPOLOGY_VMS",localaddr=127.0.0.1''
              "-device virtio-net-pci,netdev=stack,mac=${mac facts.${name}.address}"
            ];
          };
        }
      ];
    }).config.system.build.vm
  ) nixosConfigurations;
in
pkgs.writeShellApplication {
  name = "gen-topology-vms";
  runtimeInputs = [
    (pkgs.callPackage ../package.nix { })
    pkgs.coreutils
    pkgs.curl
    pkgs.qemu
  ];
  text = ''
    port=''${1:-8080}
    state=''${GEN_TOPOLOGY_VMS_STATE:-$PWD/.gen-topology/vms/${topology.name}}
    # A group of our own, so that two stacks on one host do not hear each other.
    export GEN_TOPOLOGY_VMS=230.0.0.1:$((20000 + RANDOM % 40000))

    mkdir -p "$state"
    gen-topology --quiet --file "$state/topology.json" secrets init
    export GEN_TOPOLOGY_VMS_SECRETS=$state/.gen-topology/secrets

    started=()
    finish() {
      trap - EXIT
      kill "''${started[@]}" 2>/dev/null || true
      wait || true
      echo "all machines are off; their disks are in $state"
    }
    trap finish EXIT
    trap 'exit 130' INT TERM

    start() {
      local name=$1
      shift
      mkdir -p "$state/$name"
      (
        cd "$state/$name"
        NIX_DISK_IMAGE=$PWD/disk.qcow2 exec "$@" </dev/null >console.log 2>&1
      ) &
      started+=($!)
    }

    start network qemu-system-${pkgs.stdenv.hostPlatform.qemuArch} \
      -machine none -nodefaults -display none -monitor none \
      -netdev user,id=outside,net=${topology.network.subnet},host=${host},dns=${nameServer},hostfwd=tcp:127.0.0.1:"$port"-${topology.network.virtual_ip}:${toString port} \
      -netdev socket,id=stack,mcast="$GEN_TOPOLOGY_VMS",localaddr=127.0.0.1 \
      -netdev hubport,hubid=0,id=hub-outside,netdev=outside \
      -netdev hubport,hubid=0,id=hub-stack,netdev=stack
    ${lib.concatStrings (
      lib.mapAttrsToList (name: vm: ''
        start ${name} ${vm}/bin/run-${name}-vm
      '') machines
    )}
    echo "starting ${toString (lib.length (lib.attrNames machines))} machines; consoles: $state/NODE/console.log"

    while ! curl --fail --silent --max-time 5 --output /dev/null "http://127.0.0.1:$port/"; do
      if ! kill -0 "''${started[0]}" 2>/dev/null; then
        cat "$state/network/console.log" >&2
        exit 1
      fi
      sleep 1
    done
    echo "the stack answers: http://127.0.0.1:$port/ (Ctrl-C turns all machines off)"
    wait
  '';
}
