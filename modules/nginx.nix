# nginx on an app server: between haproxy and gunicorn.
#
# Upstream's services.nginx does the job, with its main file, sandbox and log rotation.
# Our file is the http-level part. It is included, not pasted: the module
# re-indents what is pasted, and gixy, which upstream runs over the result when it is
# built, follows includes.
{
  config,
  lib,
  ...
}:
let
  top = config.services.gen-topology;
  cfg = top.nginx;
  facts = top.facts.app;
in
{
  options.services.gen-topology.nginx = {
    enable = lib.mkEnableOption "nginx, which takes haproxy's requests and hands them to the app";

    configFile = lib.mkOption {
      type = lib.types.path;
      default = top.files + "/nginx/app.conf";
      defaultText = lib.literalExpression ''config.services.gen-topology.files + "/nginx/app.conf"'';
      description = "The http-level part of nginx's configuration.";
    };
  };

  config = lib.mkIf (top.enable && cfg.enable) {
    assertions = [
      {
        assertion = facts != null;
        message = "services.gen-topology.nginx: the facts of ${top.facts.name} have no `app`; is it an app server in the topology file?";
      }
    ];

    # For people who look where the lab has it; nginx reads the store path below.
    environment.etc."nginx/app.conf".source = cfg.configFile;

    services.nginx = {
      enable = true;
      # Reload instead of restart. A new app.conf has a new store path, which changes
      # nginx.conf, which is what upstream's nginx-config-reload.service watches.
      enableReload = true;
      appendHttpConfig = "include ${cfg.configFile};";
      # Upstream's default has a virtual host `localhost`, which would answer some requests in our stead.
      virtualHosts = lib.mkDefault { };
      appendConfig = lib.mkDefault "worker_processes auto;";
      eventsConfig = lib.mkDefault "worker_connections 4096;";
    };

    systemd.services.nginx.unitConfig = { inherit (import ./unit.nix) ConditionPathExists; };
  };
}
