# Where a node's secrets come from. They are files outside the store, which only root has
# to be able to read: what sops-nix or agenix decrypt, or what you put there yourself.
# Each service gets its own at its start, by systemd's credentials or as a copy that only
# its user can read.
{
  config,
  lib,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.secrets;

  file =
    name: purpose:
    lib.mkOption {
      type = lib.types.str;
      default = "${cfg.directory}/${name}";
      defaultText = lib.literalExpression ''"''${config.services.gen-topology.secrets.directory}/${name}"'';
      description = purpose;
    };
in
{
  options.services.gen-topology.secrets = {
    directory = lib.mkOption {
      type = lib.types.str;
      default = "/var/lib/gen-topology/secrets";
      example = "/run/secrets/gen-topology";
      description = ''
        Directory with the secrets of this node, each in a file of the name that
        `gen-topology secrets list` shows.
      '';
    };
    certificates = file "certificates" "Directory with the certificates of HTTPS, each a PEM file with its chain and its key, and `ticket-keys`, the same on all load balancers; by ACME `acme-account.key` and `acme.key`, the same on all, too, instead of certificates. Load balancers only.";
    databaseKey = file "database-key" "Key that the members of the replica set know each other by. Databases, and app servers of a sharded stack.";
    application = file "application" "User and password of the application, `user:password`. App servers and databases.";
    app = file "app" "Directory with the application's own secrets (`app.secrets`), each in a file of its name. App servers only.";
    monitoring = file "monitoring" "User and password that see the state of the replica set. Databases only.";
    administration = file "administration" "User and password that change members and users. Databases only.";
  };

  config = lib.mkIf top.enable {
    assertions = map (name: {
      assertion = !lib.hasPrefix "${builtins.storeDir}/" cfg.${name};
      message = "services.gen-topology.secrets.${name} is in the Nix store, where everybody can read it; name a file outside, in quotes.";
    }) (lib.attrNames cfg);

    # Rendered files name files below it. Whoever may read one knows its name.
    systemd.tmpfiles.settings."10-gen-topology" = {
      "/run/gen-topology/secrets".d = {
        mode = "0711";
        user = "root";
        group = "root";
      };
    }
    # What root's own commands (`gen-topology node …`) look for on a database.
    // lib.optionalAttrs (top.facts.tier == "database") (
      lib.mapAttrs' (
        name: source:
        lib.nameValuePair "/run/gen-topology/secrets/${name}" {
          "L+" = {
            argument = source;
          };
        }
      ) { inherit (cfg) application monitoring administration; }
    );
  };
}
