# What `nix flake check` builds, and the tests on their own. Everything but the VM tests
# (vm-…) needs no KVM.
{
  lib,
  pkgs,
  package,
  stack,
  mkStack,
}:
let
  evaluate = _: import ../tests/nixos { inherit lib pkgs mkStack; };
  tests = evaluate null;
  # A test holds on to each of its machines, a whole NixOS, and all tests together to more
  # memory than most computers have. So each is evaluated on its own, and only the
  # path of what comes of it is kept.
  names = lib.attrNames tests.vms;
  alone = name: (evaluate name).vms.${name};

  ofTier = tier: lib.attrNames (lib.filterAttrs (_: node: node.tier == tier) stack.facts);
  etc = name: stack.nixosConfigurations.${name}.config.environment.etc;

  sources = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.fileFilter (file: file.hasExt "nix") ../.;
  };
in
{
  checks = {
    inherit package;

    formatting = pkgs.runCommand "nix-files-are-formatted" { nativeBuildInputs = [ pkgs.nixfmt ]; } ''
      find ${sources} -name '*.nix' -exec nixfmt --check {} +
      touch "$out"
    '';

    # haproxy's own check of the files that are deployed. Nothing else looks at them before
    # they are reloaded: neither the build nor, any more, nixpkgs' unit.
    haproxy = pkgs.runCommand "haproxy-accepts-its-files" { nativeBuildInputs = [ pkgs.haproxy ]; } (
      lib.concatMapStrings (name: ''
        cp ${(etc name)."haproxy/drain.map".source} drain.map
        # The one file that it reads while checking, at a place that a build has.
        sed "s|/etc/haproxy/drain.map|$PWD/drain.map|" ${
          (etc name)."haproxy/haproxy.cfg".source
        } > haproxy.cfg
        haproxy -W -c -f haproxy.cfg
      '') (ofTier "load-balancer")
      + ''
        touch "$out"
      ''
    );

    # nginx.conf as NixOS assembles it. gixy looks at it while it is built.
    nginx = pkgs.linkFarm "nginx-files-pass-gixy" (
      map (name: {
        inherit name;
        path = (etc name)."nginx/nginx.conf".source;
      }) (ofTier "app")
    );
  }
  // lib.mapAttrs' (name: stack: lib.nameValuePair "hosts-${name}" stack.upToDate) tests.stacks
  // lib.genAttrs names (name: pkgs.runCommand name { } "ln -s ${alone name} $out");

  # The tests as the driver has them, with `driverInteractive`.
  inherit (tests) vms containers;

  # Every script is typed and linted when its driver is built, with or without KVM.
  scripts = pkgs.runCommand "test-scripts-are-sound" { } (
    lib.concatMapStrings (name: ''
      echo ${(alone name).driver} >> "$out"
    '') names
  );
}
