"""Which derivations Nix builds, and which outputs are provided from Debian instead.

A store path's name comes from its inputs, not from its content. So what a package would be can be put
there by hand; Nix then builds whatever is left, which is all that NixOS itself makes: unit files, /etc,
users, the activation, the system.
"""

from __future__ import annotations

import dataclasses
import json

Derivations = dict[str, dict]

# Made by NixOS, but from the inside of packages that are only links here.
FROM_INSIDE = {"ensure-all-wrappers-paths-exist", "fc-cache", "make-binary-wrapper-hook"}


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a package, to be provided."""

    package: str
    name: str
    path: str
    environment: dict

    def __hash__(self) -> int:
        return hash(self.path)


def environment(derivation: dict) -> dict:
    """What the builder is told."""
    return {**derivation["env"], **(derivation.get("structuredAttrs") or {})}


def package_of(derivation: dict) -> str:
    """`pname`, or the name."""
    return environment(derivation).get("pname") or derivation["name"]


def is_package(derivation: dict) -> bool:
    """Whether it is compiled or fetched, which needs a network or hours, and not made by NixOS."""
    told = environment(derivation)
    if derivation["name"] in FROM_INSIDE:
        return True
    if any("hash" in output for output in derivation["outputs"].values()):
        return True
    if derivation["name"].startswith("stdenv-linux"):
        return True
    if told.get("buildCommand") and not told.get("src"):
        return False
    return bool(told.get("pname"))


def split(text: str, wanted: list[str]) -> tuple[list[Output], int, Derivations]:
    """From `nix derivation show -r`: what is to be provided for `wanted`, and how many are built."""
    derivations: Derivations = json.loads(text)["derivations"]
    provided: dict[str, Output] = {}
    built: set[str] = set()
    open_: list[tuple[str, list[str]]] = [(name.rsplit("/", 1)[-1], ["out"]) for name in wanted]
    while open_:
        name, outputs = open_.pop()
        derivation = derivations[name]
        if is_package(derivation):
            for output in outputs:
                path = output_path(derivation, output)
                provided[path] = Output(
                    package_of(derivation), output, path, environment(derivation)
                )
        elif name not in built:
            built.add(name)
            inputs = derivation["inputs"]["drvs"]
            open_ += [(other, what["outputs"]) for other, what in inputs.items()]
    return list(provided.values()), len(built), derivations


def output_path(derivation: dict, output: str) -> str:
    """Where the output is. A fixed output's path is known by its environment only."""
    path = derivation["outputs"][output].get("path") or environment(derivation)[output]
    return "/nix/store/" + path.rsplit("/", 1)[-1]
