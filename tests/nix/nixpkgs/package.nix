# Something that passes for a derivation.
attributes@{ name, ... }:
attributes
// {
  type = "derivation";
  pname = name;
  outPath = "/nix/store/00000000000000000000000000000000-${name}";
  drvPath = "/nix/store/00000000000000000000000000000000-${name}.drv";
  outputs = [ "out" ];
  outputName = "out";
  meta = {
    mainProgram = name;
  }
  // attributes.meta or { };
}
