# What every node has: its facts, our program, and the directory through which the
# daemons of a node talk to each other.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.gen-topology;
  json = pkgs.formats.json { };

  # "etc/haproxy/haproxy.cfg" in node.json is "haproxy/haproxy.cfg" below `files`.
  rendered = lib.mapAttrs' (
    path: sha256: lib.nameValuePair (lib.removePrefix "etc/" path) sha256
  ) cfg.facts.files;

  regenerate = "run `gen-topology generate`";

  # For messages: "node-1/etc/haproxy/haproxy.cfg", without the flake's store path.
  display = path: "${cfg.facts.name}/etc/${path}";

  intact =
    path: sha256:
    let
      file = cfg.files + "/${path}";
      exists = builtins.pathExists file;
    in
    [
      {
        assertion = exists;
        message = "${display path} is missing; ${regenerate}, and `git add` it if this is a flake.";
      }
      {
        assertion = !exists || builtins.hashFile "sha256" file == sha256;
        message = "${display path} was changed by hand; change the topology file, then ${regenerate}.";
      }
    ];

  loadBalancer = lib.types.submodule {
    freeformType = json.type;
    options = {
      port = lib.mkOption {
        type = lib.types.port;
        description = "Port of the virtual IP.";
      };
      internal_port = lib.mkOption {
        type = lib.types.port;
        description = "Port on which load balancers ask each other to drain, and where metrics are.";
      };
      drain_time_ms = lib.mkOption {
        type = lib.types.ints.unsigned;
        description = "How long clients are asked to go before the virtual IP moves on purpose.";
      };
    };
  };

  app = lib.types.submodule {
    freeformType = json.type;
    options = {
      port = lib.mkOption {
        type = lib.types.port;
        description = "Port of nginx.";
      };
      router_port = lib.mkOption {
        type = lib.types.nullOr lib.types.port;
        default = null;
        description = "Port of mongos; sharded stacks only.";
      };
    };
  };

  facts = lib.types.submodule {
    freeformType = json.type;
    options = {
      generated = lib.mkOption {
        type = lib.types.str;
        default = "by hand";
        description = "Who wrote the facts.";
      };
      stack = lib.mkOption {
        type = lib.types.str;
        description = "Name of the stack.";
      };
      name = lib.mkOption {
        type = lib.types.str;
        description = "Host name of the node.";
      };
      tier = lib.mkOption {
        type = lib.types.enum [
          "load-balancer"
          "app"
          "database"
        ];
        description = "What the node does.";
      };
      address = lib.mkOption {
        type = lib.types.str;
        description = "IPv4 address of the node.";
      };
      prefix_length = lib.mkOption {
        type = lib.types.ints.between 1 32;
        description = "Length of the subnet's prefix, in bits.";
      };
      interface = lib.mkOption {
        type = lib.types.str;
        description = "Interface that has the address.";
      };
      virtual_ip = lib.mkOption {
        type = lib.types.str;
        description = "Address that visitors use.";
      };
      load_balancer = lib.mkOption {
        type = lib.types.nullOr loadBalancer;
        default = null;
        description = "Load balancers only.";
      };
      app = lib.mkOption {
        type = lib.types.nullOr app;
        default = null;
        description = "App servers only.";
      };
      database = lib.mkOption {
        type = lib.types.nullOr json.type;
        default = null;
        description = "Databases only: the replica set as it should be.";
      };
      files = lib.mkOption {
        type = lib.types.attrsOf lib.types.str;
        default = { };
        description = ''
          The rendered files and their SHA-256, as `gen-topology generate` left them.
          A file that is missing or different stops the evaluation.
        '';
      };
    };
  };
in
{
  options.services.gen-topology = {
    enable = lib.mkEnableOption "this machine's part of a gen-topology stack";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ../package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ../package.nix { }";
      description = "The gen-topology program, which supervises haproxy and keepalived and reconciles the replica set.";
    };

    facts = lib.mkOption {
      type = facts;
      example = lib.literalExpression "lib.importJSON ./node.json";
      description = ''
        Who this node is: the content of the `node.json` that `gen-topology generate` writes.
        Found by the node's own services at {file}`/etc/gen-topology/node.json`.
      '';
    };

    files = lib.mkOption {
      type = lib.types.path;
      example = lib.literalExpression "./etc";
      description = ''
        Directory of the daemons' configuration files, deployed byte for byte to the same
        place below {file}`/etc`.
      '';
    };

    group = lib.mkOption {
      type = lib.types.str;
      default = "gen-topology";
      readOnly = true;
      internal = true;
      description = "Group whose members may write to {file}`/run/gen-topology`.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = lib.concatLists (lib.mapAttrsToList intact rendered);

    environment.etc = {
      "gen-topology/node.json".source = json.generate "node.json" cfg.facts;
      # Rendered files call it by this path, here as in the lab.
      "gen-topology/gen-topology".source = lib.getExe cfg.package;
    };

    environment.systemPackages = [ cfg.package ];

    # haproxy's supervisor writes its state here, supervisord the app's socket, and
    # whoever drains an app server a file.
    users.groups.${cfg.group} = { };
    systemd.tmpfiles.settings."10-gen-topology"."/run/gen-topology".d = {
      mode = "0775";
      user = "root";
      group = cfg.group;
    };
  };
}
