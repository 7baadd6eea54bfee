# Every option of NixOS that our modules and tests set, with its type and the file of
# nixpkgs that declares it. Facts, copied by reading; no code of nixpkgs. An option
# that we set and that is not listed here stops tests/nix.rs. scripts/eval-hosts
# compares it with the declarations of a real nixpkgs.
{ lib }:
let
  inherit (lib) types;

  # Lists of a unit's option are concatenated; anything else has to be the same
  # everywhere it is defined, and a mixture is an error (nixos/lib/systemd-unit-options.nix).
  unitOption = lib.mkOptionType {
    name = "systemd option";
    merge =
      loc: definitions:
      let
        values = map (definition: definition.value) (lib.modules.filterOverrides definitions);
      in
      if lib.all lib.isList values then
        lib.concatLists values
      else if lib.any lib.isList values then
        throw "${lib.showOption loc}: a list and something else"
      else
        lib.mergeEqualOption loc definitions;
  };
  unitName = types.strMatching "[a-zA-Z0-9@%:_.\\\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)";
  nonEmpty = types.addCheck types.str (value: builtins.match "[ \t\n]*" value == null) // {
    description = "string (with check: non-empty)";
  };
  option = type: default: lib.mkOption { inherit type default; };
  required = type: lib.mkOption { inherit type; };

  service = types.submodule {
    options = {
      after = option (types.listOf unitName) [ ];
      before = option (types.listOf unitName) [ ];
      description = option types.singleLineStr "";
      documentation = option (types.listOf types.str) [ ];
      path = option (types.listOf (types.either types.package types.str)) [ ];
      reloadTriggers = option (types.listOf unitOption) [ ];
      conflicts = option (types.listOf unitName) [ ];
      reloadIfChanged = option types.bool false;
      requisite = option (types.listOf unitName) [ ];
      restartTriggers = option (types.listOf types.unspecified) [ ];
      startAt = option (types.either types.str (types.listOf types.str)) [ ];
      serviceConfig = option (types.addCheck (types.attrsOf unitOption) (
        config:
        # What is weaker than another definition, too.
        lib.elem (config.Type.content or config.Type or "simple") [
          "exec"
          "simple"
          "forking"
          "oneshot"
          "dbus"
          "notify"
          "notify-reload"
          "idle"
        ]
        && lib.elem (config.Restart.content or config.Restart or "no") [
          "no"
          "on-success"
          "on-failure"
          "on-abnormal"
          "on-abort"
          "always"
        ]
      )) { };
      stopIfChanged = option types.bool true;
      unitConfig = option (types.attrsOf unitOption) { };
      wantedBy = option (types.listOf unitName) [ ];
      wants = option (types.listOf unitName) [ ];
    };
  };

  path = types.submodule {
    options = {
      description = option types.singleLineStr "";
      pathConfig = option (types.attrsOf unitOption) { };
      wantedBy = option (types.listOf unitName) [ ];
    };
  };

  etc = types.submodule {
    options = {
      source = required types.path;
      mode = option types.str "symlink";
    };
  };

  tmpfile = types.submodule {
    options = {
      argument = option types.str "";
      group = option types.str "-";
      mode = option types.str "-";
      user = option types.str "-";
    };
  };

  address = types.submodule {
    options = {
      address = required types.str;
      prefixLength = required (types.ints.between 0 32);
    };
  };

  route = types.submodule {
    options = {
      address = required types.str;
      prefixLength = required (types.ints.between 0 32);
      via = option (types.nullOr types.str) null;
    };
  };

  interface = types.submodule {
    options = {
      ipv4.addresses = option (types.listOf address) [ ];
      ipv4.routes = option (types.listOf route) [ ];
    };
  };

  user = types.submodule {
    options = {
      group = option types.str "";
      isSystemUser = option types.bool false;
    };
  };

  parameter = types.oneOf [
    types.str
    types.int
    types.bool
    (types.listOf types.str)
  ];

  nixos = {
    "nixos/modules/misc/assertions.nix" = {
      assertions = option (types.listOf types.unspecified) [ ];
    };
    "nixos/modules/misc/version.nix" = {
      system.stateVersion = required types.str;
    };
    "nixos/modules/misc/nixpkgs.nix" = {
      nixpkgs.pkgs = required types.raw;
    };
    "nixos/modules/config/system-path.nix" = {
      environment.systemPackages = option (types.listOf types.package) [ ];
    };
    "nixos/modules/config/users-groups.nix" = {
      users.groups = option (types.attrsOf (types.submodule { })) { };
      users.users = option (types.attrsOf user) { };
    };
    "nixos/modules/system/etc/etc.nix" = {
      environment.etc = option (types.attrsOf etc) { };
    };
    "nixos/modules/system/boot/kernel.nix" = {
      boot.kernelPackages = option types.raw { kernel.version = "6.18.0"; };
    };
    "nixos/modules/system/boot/loader/grub/grub.nix" = {
      boot.loader.grub.device = option types.str "";
    };
    "nixos/modules/system/boot/systemd.nix" = {
      systemd.paths = option (types.attrsOf path) { };
      systemd.services = option (types.attrsOf service) { };
    };
    "nixos/modules/system/boot/systemd/tmpfiles.nix" = {
      systemd.tmpfiles.settings = option (types.attrsOf (types.attrsOf (types.attrsOf tmpfile))) { };
    };
    "nixos/modules/system/boot/networkd.nix" = {
      systemd.network.networks = option (types.attrsOf (
        types.submodule {
          options.networkConfig = option (types.addCheck (types.attrsOf unitOption) (
            config:
            lib.elem (config.KeepConfiguration or "no") [
              "yes"
              "no"
              true
              false
              "static"
            ]
          )) { };
        }
      )) { };
    };
    "nixos/modules/tasks/filesystems.nix" = {
      fileSystems = option (types.attrsOf (
        types.submodule {
          options.device = option (types.nullOr nonEmpty) null;
          # No default since 26.05.
          options.fsType = required nonEmpty;
        }
      )) { };
    };
    "nixos/modules/tasks/network-interfaces.nix" = {
      networking.defaultGateway = option (types.nullOr (
        types.submodule {
          options.address = required types.str;
          options.interface = option (types.nullOr types.str) null;
        }
      )) null;
      networking.hostName = option (types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$") "nixos";
      networking.interfaces = option (types.attrsOf interface) { };
      networking.useDHCP = option types.bool true;
      networking.useHostResolvConf = option types.bool false;
      networking.useNetworkd = option types.bool false;
    };
    "nixos/modules/services/hardware/udev.nix" = {
      networking.usePredictableInterfaceNames = option types.bool true;
    };
    "nixos/modules/config/networking.nix" = {
      networking.hosts = option (types.attrsOf (types.listOf types.str)) { };
    };
    "nixos/modules/services/networking/firewall.nix" = {
      networking.firewall.enable = option types.bool true;
    };
    "nixos/modules/services/networking/ssh/sshd.nix" = {
      services.openssh.enable = option types.bool false;
      services.openssh.ports = option (types.listOf types.port) [ 22 ];
    };
    "nixos/modules/services/networking/haproxy.nix" = {
      services.haproxy.enable = option types.bool false;
    };
    "nixos/modules/services/networking/keepalived/default.nix" = {
      services.keepalived.enable = option types.bool false;
    };
    "nixos/modules/services/databases/mongodb.nix" = {
      services.mongodb.enable = option types.bool false;
    };
    "nixos/modules/services/logging/logrotate.nix" = {
      services.logrotate.settings = option (types.attrsOf (
        types.submodule (
          { name, ... }:
          {
            options.files = option (types.either types.str (types.listOf types.str)) name;
            options.frequency = option (types.nullOr types.str) null;
            freeformType = types.attrsOf (
              types.nullOr (
                types.oneOf [
                  types.int
                  types.bool
                  types.str
                ]
              )
            );
          }
        )
      )) { };
    };
    "nixos/modules/services/web-servers/nginx/default.nix" = {
      services.nginx.appendConfig = option types.lines "";
      services.nginx.appendHttpConfig = option types.lines "";
      services.nginx.enable = option types.bool false;
      services.nginx.enableReload = option types.bool false;
      services.nginx.eventsConfig = option types.lines "";
      services.nginx.virtualHosts = option (types.attrsOf types.raw) { localhost = { }; };
    };
    "nixos/modules/image/images.nix" = {
      image.modules = option (types.attrsOf types.deferredModule) { };
    };
    "nixos/modules/virtualisation/build-vm.nix" = {
      virtualisation.vmVariant = option types.deferredModule { };
    };
    "nixos/modules/system/build.nix" = {
      system.build = option (types.lazyAttrsOf types.unspecified) { };
    };
  };

  # There in machines of VM tests, and in virtualisation.vmVariant.
  qemu = {
    "nixos/modules/virtualisation/disk-size-option.nix" = {
      virtualisation.diskSize = option (types.either (types.enum [ "auto" ]) types.ints.positive) "auto";
    };
    "nixos/modules/virtualisation/qemu-vm.nix" = {
      virtualisation.graphics = option types.bool true;
      virtualisation.memorySize = option types.ints.positive 1024;
      virtualisation.qemu.networkingOptions = option (types.listOf types.str) [ ];
      virtualisation.sharedDirectories = option (types.attrsOf (
        types.submodule {
          options = {
            source = required types.str;
            target = required types.path;
          };
        }
      )) { };
    };
  };

  # There in machines and in containers of tests.
  guest = {
    "nixos/modules/virtualisation/guest-networking-options.nix" = {
      virtualisation.interfaces = option (types.attrsOf (
        types.submodule {
          options.assignIP = option types.bool false;
          options.vlan = required types.ints.unsigned;
        }
      )) { };
    };
  };

  # There in an image of VirtualBox.
  virtualbox = {
    "nixos/modules/virtualisation/virtualbox-image.nix" = {
      virtualbox.params = option (types.attrsOf parameter) { };
    };
  };

  modules = lib.mapAttrsToList (file: options: { _file = file; } // { inherit options; });
in
{
  nixos = modules nixos;
  container = modules guest;
  node = modules (guest // qemu);
  qemu = modules qemu;
  virtualbox = modules virtualbox;
}
