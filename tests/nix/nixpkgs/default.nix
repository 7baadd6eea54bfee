# A stand-in for nixpkgs, for evaluating without it: packages have names and nothing
# to build, NixOS has the options of ../options.nix. Honest about being one: what this
# accepts was not built, and what a build checks is not checked.
#
# `lib` is the real one, of the nixpkgs that GEN_TOPOLOGY_NIXPKGS or NIX_PATH name, if any.
{ system, config }:
let
  lib = import ./lib.nix;

  package = import ./package.nix;
  named = name: package { inherit name; };

  json = lib.types.nullOr (
    lib.types.oneOf [
      lib.types.bool
      lib.types.int
      lib.types.float
      lib.types.str
      lib.types.path
      (lib.types.attrsOf json)
      (lib.types.listOf json)
    ]
  );

  python = package {
    name = "python3";
    withPackages =
      select:
      package {
        name = "python3-env";
        packages = select pkgs.python3Packages;
      };
  };

  mongodb = package {
    name = "mongodb-ce";
    free = false;
  };

  pkgs = {
    inherit lib;
    stdenv.hostPlatform = {
      inherit system;
      qemuArch = lib.head (lib.splitString "-" system);
    };

    callPackage =
      path: arguments:
      (import path) (builtins.intersectAttrs (builtins.functionArgs (import path)) pkgs // arguments);
    rustPlatform.buildRustPackage =
      arguments:
      package (
        {
          name = arguments.pname;
          # As long as it is asked for, it is looked at.
          inherit (arguments) src;
          lock = builtins.pathExists arguments.cargoLock.lockFile;
        }
        // {
          inherit (arguments) meta;
        }
      );

    formats.json = _: {
      type = json;
      generate =
        name: value:
        package {
          inherit name;
          text = builtins.toJSON value;
        };
    };
    linkFarm = name: entries: package { inherit name entries; };
    mkShell = arguments: package ({ name = "shell"; } // arguments);
    runCommand =
      name: arguments: text:
      package ({ inherit name text; } // arguments);
    writeShellApplication = arguments: package arguments;
    writeText = name: text: package { inherit name text; };
    runtimeShell = "/bin/sh";

    testers.runNixOSTest = import ./test.nix { inherit lib pkgs package; };

    # Refused unless the caller says that its licence will do, as nixpkgs does.
    mongodb-ce =
      if config.allowUnfreePredicate mongodb then mongodb else throw "mongodb-ce is not free software";

    python3 = python;
    python3Packages = lib.genAttrs [
      "flask"
      "gunicorn"
      "pymongo"
      "supervisor"
    ] named;
  }
  // lib.genAttrs [
    "clippy"
    "coreutils"
    "curl"
    "gawk"
    "gixy"
    "gnugrep"
    "haproxy"
    "installShellFiles"
    "iproute2"
    "jq"
    "keepalived"
    "nftables"
    "nginx"
    "nixfmt"
    "nixfmt-tree"
    "openssl"
    "pebble"
    "qemu"
    "rustfmt"
    "systemd"
    "util-linux"
  ] named;
in
pkgs
