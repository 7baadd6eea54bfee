"""Packages that take more than links to their programs, each with why."""

from __future__ import annotations

import re
import shutil
import typing
from pathlib import Path

from packages import PROGRAMS

if typing.TYPE_CHECKING:
    from provide import Provider

    from graph import Output

LIBRARIES = "/debian/lib/x86_64-linux-gnu"
VENV = "/debian/gt/venv"

# Variables that a set-user-id program must not believe, as the C library has them.
UNSAFE = "#define UNSECURE_ENVVARS " + " ".join(
    f'"{name}\\0"'
    for name in (
        "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOSTALIASES", "LD_AUDIT", "LD_BIND_NOT",
        "LD_BIND_NOW", "LD_DEBUG", "LD_DEBUG_OUTPUT", "LD_DYNAMIC_WEAK", "LD_LIBRARY_PATH",
        "LD_ORIGIN_PATH", "LD_PRELOAD", "LD_PROFILE", "LD_SHOW_AUXV", "LOCALDOMAIN", "LOCPATH",
        "MALLOC_ARENA_MAX", "MALLOC_ARENA_TEST", "MALLOC_TRACE", "NIS_PATH", "NLSPATH",
        "RESOLV_HOST_CONF", "RES_OPTIONS", "TMPDIR", "TZDIR",
    )
) + "\n"


LNDIR = """set -eu
[ "$1" = -silent ] && shift
from=$(realpath "$1")
to=$(realpath "${2:-.}")
cd "$from"
find . -type d -exec mkdir -p "$to/{}" \\;
find . ! -type d | while read -r file; do
    [ -e "$to/$file" ] || [ -L "$to/$file" ] || ln -s "$from/$file" "$to/$file"
done"""


def script(path: Path, text: str) -> None:
    """An executable of a few lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/debian/bin/bash\n{text}\n")
    path.chmod(0o755)


def link(path: Path, target: str) -> None:
    """A link that replaces none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(target)


def stdenv(_: Provider, output: Output, out: Path) -> None:
    """nixpkgs' own setup script over Debian's compiler and tools. Building it would begin with a compiler."""
    told = output.environment
    setup = told["setup"]
    listed = told["defaultNativeBuildInputs"]
    listed = listed.split() if isinstance(listed, str) else listed
    # The one that others can't do without: names of outputs.
    hooks = " ".join(hook for hook in listed if hook.endswith("-multiple-outputs.sh"))
    out.mkdir()
    (out / "nix-support").mkdir()
    (out / "setup").write_text(
        "export SHELL=/debian/bin/bash\n"
        f'initialPath="/debian"\ndefaultNativeBuildInputs="{hooks}"\ndefaultBuildInputs=""\n'
        "export CC=gcc CXX=g++ NIX_ENFORCE_PURITY=0\n"
        'patchShebangs() { :; }\n'
        f'source "{setup}"\n'
    )


def systemd(provider: Provider, output: Output, out: Path) -> None:
    """Debian's, with the files where NixOS looks for them, and stand-ins for units that it lacks."""
    programs(provider, ["systemd", "systemd-container", "systemd-resolved", "systemd-coredump", "systemd-oomd",
                        "systemd-timesyncd", "systemd-cryptsetup", "systemd-repart", "systemd-sysv", "udev"], out)
    own = provider.root / "usr/lib/systemd"
    for entry in own.iterdir():
        if entry.name not in ("system", "user"):
            link(out / "lib/systemd" / entry.name, f"/debian/lib/systemd/{entry.name}")
    link(out / "lib/udev", "/debian/lib/udev")
    for kind in ("system", "user"):
        here = out / "example/systemd" / kind
        shutil.copytree(own / kind, here, symlinks=True)
        for name in provider.units_wanted(kind):
            unit = here / name
            if unit.exists() or unit.is_symlink():
                continue
            if name.endswith((".wants", ".requires")):
                unit.mkdir()
            else:
                unit.write_text(f"[Unit]\nDescription=Not in Debian: {name}\nRefuseManualStart=yes\n")
    for directory in ("tmpfiles.d", "sysctl.d"):
        shutil.copytree(provider.root / "usr/lib" / directory, out / "example" / directory)
        for name in provider.mentioned(f"example/{directory}/"):
            (out / "example" / directory / name).touch()
    # NixOS puts its own path in the place of the package's.
    coredump = out / "example/sysctl.d/50-coredump.conf"
    coredump.write_text(coredump.read_text().replace("/usr/lib/systemd", f"{output.path}/lib/systemd"))
    for directory in ("dbus-1/system-services", "dbus-1/system.d", "dbus-1/services", "dbus-1/interfaces"):
        link(out / "share" / directory, f"/debian/share/{directory}")


def dbus(provider: Provider, _: Output, out: Path) -> None:
    """With its units, which NixOS takes from the package."""
    programs(provider, ["dbus", "dbus-bin", "dbus-daemon"], out)
    units(provider, out, ["dbus.socket"], ["dbus.socket"])
    for part in ("dbus-1", "xml"):
        if (provider.root / "usr/share" / part).exists():
            link(out / "share" / part, f"/debian/share/{part}")
    link(out / "libexec/dbus-daemon-launch-helper", "/debian/lib/dbus-1.0/dbus-daemon-launch-helper")


def dbus_broker(provider: Provider, _: Output, out: Path) -> None:
    """With its units, which NixOS takes from the package."""
    programs(provider, ["dbus-broker"], out)
    units(provider, out, ["dbus-broker.service"], ["dbus-broker.service"])


def units(provider: Provider, out: Path, system: list[str], user: list[str]) -> None:
    """Debian's unit files as part of the package."""
    for kind, names in (("system", system), ("user", user)):
        for name in names:
            there = provider.root / "usr/lib/systemd" / kind / name
            if not there.exists():
                continue
            here = out / "lib/systemd" / kind / name
            here.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there, here)


def glibc(provider: Provider, output: Output, out: Path) -> None:
    """Its libraries and its few programs; or, of its source, the one file that NixOS's wrappers need."""
    if "source" in output.path or "unsecvars" in output.path:
        out.mkdir()
        (out / "unsecvars.h").write_text(UNSAFE)
        return
    programs(provider, ["libc-bin"], out)
    link(out / "lib", LIBRARIES)
    link(out / "share/i18n", "/debian/share/i18n")


def locales(_: Provider, __: Output, out: Path) -> None:
    """Nothing: Debian's programs know C.UTF-8, and look for others in Debian's place."""
    (out / "lib/locale").mkdir(parents=True)
    (out / "lib/locale/locale-archive").touch()


def pam(provider: Provider, _: Output, out: Path) -> None:
    """Modules, where NixOS's /etc/pam.d names them."""
    programs(provider, ["libpam-modules-bin"], out)
    link(out / "lib/security", f"{LIBRARIES}/security")


def python3(_: Provider, __: Output, out: Path) -> None:
    """Debian's, in the environment that has the application's packages."""
    for name in ("python", "python3", "python3.13", "python3.14"):
        script(out / "bin" / name, f'exec {VENV}/bin/python3 "$@"')
    (out / "lib/python3.13/site-packages").mkdir(parents=True)


def supervisor(_: Provider, __: Output, out: Path) -> None:
    """As installed by pip."""
    for name in ("supervisord", "supervisorctl"):
        script(out / "bin" / name, f'exec {VENV}/bin/python3 -m supervisor.{name} "$@"')


def built(name: str) -> typing.Callable[[Provider, Output, Path], None]:
    """One program that is not Debian's: gen-topology, the mongod of the lab, nixpkgs' own."""

    def fill(provider: Provider, _: Output, out: Path) -> None:
        (out / "bin").mkdir(parents=True)
        shutil.copy(provider.built[name], out / "bin" / name)

    return fill


def nsncd(_: Provider, __: Output, out: Path) -> None:
    """Debian's programs ask the name services themselves; the unit wants to hear that it is ready."""
    script(out / "bin/nsncd", "exec /debian/bin/systemd-notify --ready --exec \\; /debian/bin/sleep infinity")


def lndir(_: Provider, __: Output, out: Path) -> None:
    """`lndir [-silent] FROM [TO]`, which is not in Debian by itself: a directory as a tree of links."""
    script(out / "bin/lndir", LNDIR)


def nothing_said(_: Provider, output: Output, out: Path) -> None:
    """A checker that is content with everything: its own checks run elsewhere (tests/daemons.rs)."""
    for name in (output.package, output.package.lower()):
        script(out / "bin" / name, "exit 0")


def bash(provider: Provider, _: Output, out: Path) -> None:
    """The name `sh` belongs to another package in Debian."""
    programs(provider, ["bash"], out)
    link(out / "bin/sh", "/debian/bin/bash")


def coreutils(provider: Provider, _: Output, out: Path) -> None:
    """`kill` belongs to another package in Debian."""
    programs(provider, PROGRAMS["coreutils"], out)
    link(out / "bin/kill", "/debian/bin/kill")


def desktop(_: Provider, __: Output, out: Path) -> None:
    """Indexes of a desktop, which no machine has."""
    for name in ("update-desktop-database", "update-mime-database"):
        script(out / "bin" / name, "exit 0")


def util_linux(provider: Provider, output: Output, out: Path) -> None:
    """Its programs, and the place of a log that NixOS asks it for."""
    programs(provider, PROGRAMS["util-linux"], out)
    if output.name == "lastlog":
        (out / "lib/tmpfiles.d").mkdir(parents=True)
        (out / "lib/tmpfiles.d/lastlog.conf").touch()


def formatter(_: Provider, __: Output, out: Path) -> None:
    """Formats nginx's file in nixpkgs; here it is left as it is."""
    script(out / "bin/nginxfmt", "exec cat")


def iana(_: Provider, __: Output, out: Path) -> None:
    """Debian's netbase."""
    for name in ("protocols", "services"):
        link(out / "etc" / name, f"/debian/gt/etc/{name}")


def certificates(_: Provider, output: Output, out: Path) -> None:
    """None: no machine of a test reaches anything outside."""
    for name in ("ca-bundle.crt", "ca-no-trust-rules-bundle.crt"):
        path = out / "etc/ssl/certs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (out / "etc/ssl/trust-source").mkdir(parents=True)


def zones(_: Provider, __: Output, out: Path) -> None:
    """Debian's tzdata."""
    link(out / "share/zoneinfo", "/debian/share/zoneinfo")


def mailcap(_: Provider, __: Output, out: Path) -> None:
    """nginx's list of types."""
    link(out / "etc/nginx/mime.types", "/debian/gt/etc/nginx/mime.types")
    (out / "etc/mime.types").touch()


def nginx(provider: Provider, _: Output, out: Path) -> None:
    """With the files that nginx.conf includes."""
    programs(provider, ["nginx-light", "nginx", "nginx-common"], out)
    for name in ("mime.types", "fastcgi.conf", "fastcgi_params", "uwsgi_params", "proxy_params", "scgi_params"):
        link(out / "conf" / name, f"/debian/gt/etc/nginx/{name}")


def nix(provider: Provider, _: Output, out: Path) -> None:
    """Without its daemon, which no test asks."""
    programs(provider, ["nix-bin"], out)
    (out / "lib/tmpfiles.d").mkdir(parents=True)
    (out / "lib/tmpfiles.d/nix-daemon.conf").touch()


def run_nspawn(provider: Provider, output: Output, out: Path) -> None:
    """nixpkgs' own, with a systemd-nspawn that adds what Debian's programs need (`nspawn`)."""
    source = provider.source(output.environment["src"]) / "run_nspawn/__init__.py"
    text = source.read_text()
    for name, program in (
        ("@ip@", "/debian/sbin/ip"),
        ("@systemd-nspawn@", f"{output.path}/bin/nspawn"),
        ("@chattr@", "/debian/bin/chattr"),
    ):
        text = text.replace(name, program)
    (out / "lib").mkdir(parents=True)
    (out / "lib/run_nspawn.py").write_text(text + "\n")
    script(out / "bin/run-nspawn", f'exec {VENV}/bin/python3 {output.path}/lib/run_nspawn.py "$@"')
    shutil.copy(Path(__file__).with_name("nspawn"), out / "bin/nspawn")


def kept(provider: Provider, output: Output, out: Path) -> None:
    """A file of nixpkgs or systemd that is fetched, and that Debian has, too."""
    name = re.sub(r"^[^-]*-", "", out.name)
    found = sorted(provider.root.glob(f"usr/lib/*.d/{name}"))
    out.write_bytes(found[0].read_bytes() if found else b"")


def kernel_settings(_: Provider, __: Output, out: Path) -> None:
    """The two lines that NixOS looks for, as x86-64 has them."""
    out.write_text("CONFIG_ARCH_MMAP_RND_BITS_MAX=32\nCONFIG_ARCH_MMAP_RND_COMPAT_BITS_MAX=16\n")


def wrappers(provider: Provider, _: Output, out: Path) -> None:
    """Wrappers of shell instead of C: nixpkgs' own other way."""
    text = (provider.nixpkgs / "pkgs/build-support/setup-hooks/make-wrapper.sh").read_text()
    (out / "nix-support").mkdir(parents=True)
    (out / "nix-support/setup-hook").write_text(
        text.replace("@shell@", "/debian/bin/bash")
        + '\nmakeBinaryWrapper() { makeShellWrapper "$@"; }\nwrapProgramBinary() { wrapProgramShell "$@"; }\n'
    )


def programs(provider: Provider, debian: list[str], out: Path) -> None:
    """Links to the programs of Debian packages."""
    for package in debian:
        for name, path in provider.programs_of(package):
            link(out / "bin" / name, f"/debian/{path}")
    (out / "bin").mkdir(parents=True, exist_ok=True)
    link(out / "sbin", "bin")


SPECIAL = {
    "50-coredump.conf": kept,
    "ShellCheck": nothing_said,
    "bash": bash,
    "bash-interactive": bash,
    "coreutils": coreutils,
    "coreutils-full": coreutils,
    "dbus": dbus,
    "desktop-file-utils": desktop,
    "shared-mime-info": desktop,
    "util-linux": util_linux,
    "dbus-broker": dbus_broker,
    "gcc-wrapper": lambda provider, _, out: programs(provider, ["gcc", "binutils", "binutils-x86-64-linux-gnu"], out),
    "gen-topology": built("gen-topology"),
    "gixy": nothing_said,
    "glibc": glibc,
    "glibc-locales": locales,
    "iana-etc": iana,
    "linux-config": kernel_settings,
    "linux-pam": pam,
    "lndir": lndir,
    "mailcap": mailcap,
    "make-binary-wrapper-hook": wrappers,
    "make-initrd-ng": nothing_said,
    "mongodb-ce": built("mongod"),
    "nginx": nginx,
    "nginx-config-formatter": formatter,
    "nix": nix,
    "nss-cacert": certificates,
    "nsncd": nsncd,
    "python3": python3,
    "run-nspawn": run_nspawn,
    "stdenv-linux": stdenv,
    "supervisor": supervisor,
    "switch-to-configuration": built("switch-to-configuration"),
    "systemd": systemd,
    "tzdata": zones,
}
