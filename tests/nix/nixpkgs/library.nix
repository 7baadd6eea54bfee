# A stand-in for the library of nixpkgs, for machines that don't have it: the functions
# that our files use and a module system in miniature. It knows less than the real one
# (one declaration of an option, no `mkOrder`, short messages), which tests/nix.rs prefers where it is.
let
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    functionArgs
    genList
    head
    isAttrs
    isFunction
    isList
    isString
    length
    listToAttrs
    mapAttrs
    removeAttrs
    split
    stringLength
    substring
    tail
    ;

  kind = value: if isAttrs value then value._type or "" else "";
  showOption = concatStringsSep ".";
  last = list: elemAt list (length list - 1);
  unique = foldl' (seen: name: if elem name seen then seen else seen ++ [ name ]) [ ];

  # Properties

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };

  # Attribute sets with the properties around them moved to their attributes, so that
  # names are known before conditions are.
  pushDown =
    value:
    let
      around = property: map (mapAttrs (_: property)) (pushDown value.content);
    in
    {
      "if" = around (mkIf value.condition);
      merge = concatMap pushDown value.contents;
      override = around (mkOverride value.priority);
    }
    .${kind value} or [ value ];

  # Values with their priorities, properties resolved.
  discharge =
    value:
    {
      "if" = if value.condition then discharge value.content else [ ];
      merge = concatMap discharge value.contents;
      override = map (one: one // { inherit (value) priority; }) (discharge value.content);
    }
    .${kind value} or [
      {
        inherit value;
        priority = 100;
      }
    ];

  strongest =
    definitions:
    let
      best = foldl' (best: one: if one.priority < best then one.priority else best) 9999 definitions;
    in
    filter (one: one.priority == best) definitions;

  resolve = values: strongest (concatMap discharge values);

  mergeAs =
    type: loc: definitions:
    if all (one: type.check one.value) definitions then
      type.merge loc definitions
    else
      throw "A definition for option `${showOption loc}' is not of type `${type.name}'.";

  # Modules

  evalModules =
    arguments@{
      modules,
      specialArgs ? { },
    }:
    let
      call =
        module:
        module (
          # Asked for one by one: `imports` must not need `config`.
          mapAttrs (name: _: available.${name} or internal._module.args.${name}) (functionArgs module)
          // {
            inherit config;
          }
        );
      available = specialArgs // {
        inherit config lib extendModules;
      };
      extendModules =
        more:
        evalModules {
          modules = modules ++ more.modules;
          specialArgs = specialArgs // more.specialArgs or { };
        };

      load =
        module:
        if isFunction module then
          load (call module)
        else if isAttrs module then
          {
            imports = module.imports or [ ];
            options = module.options or { };
            config =
              if module ? config || module ? options then
                module.config or { }
              else
                removeAttrs module [
                  "_file"
                  "imports"
                  "key"
                ];
          }
        else
          load (import module);

      # Depth first; a file that is imported twice counts once.
      collect =
        seen: modules:
        foldl' (
          seen: module:
          let
            key = if isAttrs module || isFunction module then null else toString module;
            loaded = load module;
            below = collect (
              seen // { keys = seen.keys ++ (if key == null then [ ] else [ key ]); }
            ) loaded.imports;
          in
          if key != null && elem key seen.keys then seen else below // { found = below.found ++ [ loaded ]; }
        ) seen modules;

      found =
        (collect {
          keys = [ ];
          found = [ ];
        } modules).found;

      declared =
        sets:
        listToAttrs (
          map (
            name:
            let
              here = concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets;
            in
            {
              inherit name;
              value = if kind (head here) == "option" then head here else declared here;
            }
          ) (unique (concatMap attrNames sets))
        );

      options = declared (
        map (module: module.options) found
        ++ [
          {
            _module.args = mkOption {
              type = types.lazyAttrsOf types.raw;
              default = { };
            };
            _module.freeformType = mkOption { default = null; };
          }
        ]
      );

      tree =
        free: loc: options: values:
        let
          sets = concatMap pushDown values;
          at = name: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets;
          unknown = filter (name: !(options ? ${name})) (unique (concatMap attrNames sets));
        in
        (
          if unknown == [ ] then
            { }
          else if free == null then
            throw "The option `${showOption (loc ++ [ (head unknown) ])}' does not exist."
          else
            mergeAs free loc (
              map (set: {
                value = removeAttrs set (attrNames options);
                priority = 100;
              }) sets
            )
        )
        // mapAttrs (
          name: option:
          if kind option == "option" then
            evalOption (loc ++ [ name ]) option (at name)
          else
            tree null (loc ++ [ name ]) option (at name)
        ) options;

      evalOption =
        loc: option: values:
        let
          given = concatMap discharge values;
          # A default that is not needed is not looked at: it may not even have a value.
          definitions = strongest (
            if any (one: one.priority < 1500) given || !(option ? default) then
              given
            else
              given ++ discharge (mkOverride 1500 option.default)
          );
          value =
            if definitions == [ ] then
              throw "The option `${showOption loc}' was accessed but has no value defined."
            else
              mergeAs (option.type or types.raw) loc definitions;
        in
        (option.apply or (x: x)) value;

      # The last import's definitions come first, as they do there.
      values = concatMap (module: pushDown module.config) (
        genList (index: elemAt found (length found - 1 - index)) (length found)
      );
      # First, because the names of all others may depend on it.
      internal = tree null [ ] { inherit (options) _module; } (
        map (set: if set ? _module then { inherit (set) _module; } else { }) values
      );
      config = builtins.seq (known [ ] options values) (
        tree internal._module.freeformType [ ] options values
      );

      # Every name, also where nobody looks.
      known =
        loc: options: values:
        let
          sets = concatMap pushDown values;
          check =
            name:
            if options ? ${name} then
              kind options.${name} == "option"
              || known (loc ++ [ name ]) options.${name} (
                concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets
              )
            else if loc == [ ] && internal._module.freeformType != null then
              true
            else
              throw "The option `${showOption (loc ++ [ name ])}' does not exist.";
        in
        all check (concatMap attrNames sets);
    in
    {
      inherit config options extendModules;
    };

  # Types

  mkOption = option: { _type = "option"; } // option;
  mkOptionType =
    type:
    {
      check = _: true;
    }
    // type;

  mergeEqualOption =
    loc: definitions:
    let
      first = (head definitions).value;
    in
    if all (one: one.value == first) definitions then
      first
    else
      throw "The option `${showOption loc}' has conflicting definition values.";

  mergeOne =
    loc: definitions:
    if length definitions == 1 then
      (head definitions).value
    else if all (one: isAttrs one.value) definitions then
      foldl' (merged: one: merged // one.value) { } definitions
    else if all (one: isList one.value) definitions then
      concatMap (one: one.value) definitions
    else
      mergeEqualOption loc definitions;

  scalar =
    name: check:
    mkOptionType {
      inherit name check;
      merge = mergeEqualOption;
    };

  isDerivation = value: isAttrs value && value.type or "" == "derivation";
  isPath =
    value:
    builtins.isPath value || isDerivation value || (isString value && substring 0 1 value == "/");

  attrsOf =
    lazy: type:
    mkOptionType {
      name = "attribute set of ${type.name}";
      check = isAttrs;
      merge =
        loc: definitions:
        let
          sets = concatMap (one: pushDown one.value) definitions;
          at = name: resolve (concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets);
          names = unique (concatMap attrNames sets);
        in
        listToAttrs (
          map (name: {
            inherit name;
            value = mergeAs type (loc ++ [ name ]) (at name);
          }) (if lazy then names else filter (name: at name != [ ]) names)
        );
    };

  either =
    a: b:
    mkOptionType {
      name = "${a.name} or ${b.name}";
      check = value: a.check value || b.check value;
      merge =
        loc: definitions:
        if all (one: a.check one.value) definitions then
          a.merge loc definitions
        else
          b.merge loc definitions;
    };

  integer =
    name: low: high:
    scalar name (value: builtins.isInt value && value >= low && value <= high);

  types = {
    inherit either;
    raw = mkOptionType {
      name = "raw value";
      merge = mergeOne;
    };
    unspecified = types.raw // {
      name = "unspecified value";
    };
    bool = scalar "boolean" builtins.isBool;
    int = scalar "signed integer" builtins.isInt;
    float = scalar "floating point number" builtins.isFloat;
    str = scalar "string" isString;
    singleLineStr = scalar "string without line breaks" (
      value: isString value && length (split "\n" value) == 1
    );
    nonEmptyStr = scalar "non-empty string" (value: isString value && value != "");
    strMatching =
      pattern:
      scalar "string matching ${pattern}" (value: isString value && builtins.match pattern value != null);
    lines = mkOptionType {
      name = "strings concatenated with line breaks";
      check = isString;
      merge = _: definitions: concatStringsSep "\n" (map (one: one.value) definitions);
    };
    path = scalar "absolute path" isPath;
    package = scalar "package" isDerivation;
    port = integer "16 bit unsigned integer" 0 65535;
    ints = {
      between = low: high: integer "integer between ${toString low} and ${toString high}" low high;
      unsigned = integer "unsigned integer" 0 9223372036854775807;
      positive = integer "positive integer" 1 9223372036854775807;
    };
    enum = values: scalar "one of ${builtins.toJSON values}" (value: elem value values);
    nullOr =
      type:
      mkOptionType {
        name = "null or ${type.name}";
        check = value: value == null || type.check value;
        merge =
          loc: definitions:
          if all (one: one.value == null) definitions then null else type.merge loc definitions;
      };
    oneOf = options: foldl' either (head options) (tail options);
    listOf =
      type:
      mkOptionType {
        name = "list of ${type.name}";
        check = isList;
        merge =
          loc: definitions:
          map (value: mergeAs type loc (resolve [ value ])) (concatMap (one: one.value) definitions);
      };
    attrsOf = attrsOf false;
    lazyAttrsOf = attrsOf true;
    functionTo =
      type:
      mkOptionType {
        name = "function to ${type.name}";
        check = isFunction;
        merge =
          loc: definitions: argument:
          mergeAs type loc (map (one: one // { value = one.value argument; }) definitions);
      };
    deferredModule = mkOptionType {
      name = "module";
      merge = _: definitions: { imports = map (one: one.value) definitions; };
    };
    addCheck = type: check: type // { check = value: type.check value && check value; };
    submodule =
      module:
      mkOptionType {
        name = "submodule";
        check = value: isAttrs value || isFunction value;
        merge =
          loc: definitions:
          removeAttrs
            (evalModules {
              modules = [
                { config._module.args.name = last loc; }
                (freed module)
              ]
              ++ map (one: if isFunction one.value then one.value else { config = one.value; }) definitions;
            }).config
            [ "_module" ];
      };
  };

  # `freeformType` beside `options` is short for `config._module.freeformType`.
  freed =
    module:
    if isAttrs module && module ? freeformType then
      {
        options = module.options or { };
        config._module.freeformType = module.freeformType;
      }
    else if isFunction module then
      # `name` is all that ours ask for.
      { name, ... }:
      freed (module {
        inherit name;
      })
    else
      module;

  lib = {
    inherit
      all
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      discharge
      elem
      elemAt
      evalModules
      filter
      foldl'
      genList
      head
      isList
      last
      length
      mapAttrs
      mergeEqualOption
      mkIf
      mkMerge
      mkOption
      mkOptionType
      mkOverride
      removeAttrs
      showOption
      types
      ;

    # Those of overrides are gone by the time a type merges.
    modules.filterOverrides = definitions: definitions;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkEnableOption =
      _:
      mkOption {
        type = types.bool;
        default = false;
      };
    mkPackageOption =
      pkgs: name: _:
      mkOption {
        type = types.package;
        default = foldl' (set: attribute: set.${attribute}) pkgs (if isList name then name else [ name ]);
      };
    literalExpression = text: text;
    literalMD = text: text;

    concatMapStrings = f: list: concatStringsSep "" (map f list);
    concatMapStringsSep =
      separator: f: list:
      concatStringsSep separator (map f list);
    concatStrings = concatStringsSep "";
    escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
    filterAttrs =
      predicate: set: removeAttrs set (filter (name: !predicate name set.${name}) (attrNames set));
    fixedWidthString =
      width: fill: text:
      if stringLength text >= width then text else lib.fixedWidthString width fill (fill + text);
    genAttrs =
      names: f:
      listToAttrs (
        map (name: {
          inherit name;
          value = f name;
        }) names
      );
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    getExe' = package: name: "${package}/bin/${name}";
    getName = package: package.pname;
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    importJSON = path: builtins.fromJSON (builtins.readFile path);
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    licenses.mit = "mit";
    mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    min = a: b: if a < b then a else b;
    mod = a: b: a - b * (a / b);
    nameValuePair = name: value: { inherit name value; };
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    platforms.linux = [ ];
    range = first: final: genList (index: first + index) (final - first + 1);
    removePrefix =
      prefix: text:
      if lib.hasPrefix prefix text then
        substring (stringLength prefix) (stringLength text) text
      else
        text;
    splitString = separator: text: filter isString (split "[${separator}]" text);
    subtractLists = without: filter (value: !elem value without);
    throwIf = condition: message: if condition then throw message else (value: value);
    throwIfNot = condition: lib.throwIf (!condition);
    toHexString =
      number:
      (if number >= 16 then lib.toHexString (number / 16) else "")
      + substring (lib.mod number 16) 1 "0123456789ABCDEF";
    toInt = builtins.fromJSON;
    versionAtLeast = a: b: builtins.compareVersions a b >= 0;
    versionOlder = a: b: builtins.compareVersions a b < 0;
  };
in
lib
