"""Which Debian packages stand for which of nixpkgs.

A package that the machines come to need and that is not here ends the run, by name: add it to
`PROGRAMS` with the Debian packages whose programs it has (and those to `DEBIAN`), or to `EMPTY` if no
machine runs anything of it, or write what it needs into `special.py`.
"""

# Packages of nixpkgs whose programs come from these packages of Debian.
PROGRAMS: dict[str, list[str]] = {
    "acl": ["acl"],
    "attr": ["attr"],
    "bash": ["bash"],
    "bash-interactive": ["bash"],
    "bind": ["bind9-host"],
    "bzip2": ["bzip2"],
    "coreutils": ["coreutils", "coreutils-from-uutils", "rust-coreutils", "coreutils-from-gnu", "gnu-coreutils"],
    "cpio": ["cpio"],
    "curl": ["curl"],
    "dash": ["dash"],
    "diffutils": ["diffutils"],
    "dosfstools": ["dosfstools"],
    "e2fsprogs": ["e2fsprogs"],
    "file": ["file"],
    "findutils": ["findutils"],
    "gawk": ["gawk"],
    "gnugrep": ["grep"],
    "gnused": ["sed"],
    "gnutar": ["tar"],
    "gzip": ["gzip"],
    "haproxy": ["haproxy"],
    "hostname-debian": ["hostname"],
    "iproute2": ["iproute2"],
    "iptables": ["iptables"],
    "iputils": ["iputils-ping"],
    "jq": ["jq"],
    "keepalived": ["keepalived"],
    "kmod": ["kmod"],
    "less": ["less"],
    "libcap": ["libcap2-bin"],
    "libressl": ["netcat-openbsd"],
    "libxslt": ["xsltproc"],
    "logrotate": ["logrotate"],
    "man-db": ["man-db"],
    "mkpasswd": ["whois"],
    "nano": ["nano"],
    "ncurses": ["ncurses-bin"],
    "net-tools": ["net-tools"],
    "nftables": ["nftables"],
    "nginx": ["nginx-light", "nginx"],
    "nix": ["nix-bin"],
    "openssh": ["openssh-client", "openssh-common", "openssh-server"],
    "openssl": ["openssl"],
    "patch": ["patch"],
    "pebble": ["pebble"],
    "perl": ["perl", "perl-base"],
    "procps": ["procps"],
    "rsync": ["rsync"],
    "shadow": ["passwd", "login", "login.defs", "util-linux-extra"],
    "ShellCheck": ["shellcheck"],
    "strace": ["strace"],
    "sudo": ["sudo"],
    "time": ["time"],
    "util-linux": ["util-linux", "mount", "bsdutils", "fdisk", "util-linux-extra", "eject"],
    "which": ["debianutils"],
    "xz": ["xz-utils"],
    "zstd": ["zstd"],
}
PROGRAMS["coreutils-full"] = PROGRAMS["coreutils"]
PROGRAMS["util-linux-minimal"] = PROGRAMS["util-linux"]
PROGRAMS["gnused-minimal"] = PROGRAMS["gnused"]

# Packages that nobody runs anything of, or whose content Debian's programs find by themselves.
EMPTY: set[str] = {
    "Config-IniFiles",
    "File-Slurp",
    "IO-Stringy",
    "JSON",
    "bash-completion",
    "bcache-tools",
    "blinker",
    "btrfs-progs",
    "click",
    "dnspython",
    "ensure-all-wrappers-paths-exist",
    "fc-cache",
    "flask",
    "fontconfig",
    "gnupg",
    "gunicorn",
    "hicolor-icon-theme",
    "itsdangerous",
    "jinja2",
    "kexec-tools",
    "linux-headers",
    "markupsafe",
    "nix-bash-completions",
    "nix-info",
    "nixos-build-vms",
    "nixos-enter",
    "nixos-firewall-tool",
    "nixos-generate-config",
    "nixos-init",
    "nixos-install",
    "nixos-option",
    "nixos-rebuild-ng",
    "packaging",
    "pymongo",
    "sound-theme-freedesktop",
    "werkzeug",
    "xauth",
    "xwininfo",
}

# Outputs that no machine needs anything of.
EMPTY_OUTPUTS: set[str] = {"dev", "devdoc", "doc", "info", "man", "p11kit"}

# What the root is made with: the packages above, and what it takes to run Nix, containers and tests.
DEBIAN: set[str] = {
    "ca-certificates",
    "dbus",
    "dbus-broker",
    "gcc",
    "libc-bin",
    "libc6-dev",
    "libfile-slurp-perl",
    "libjson-perl",
    "libpam-modules",
    "locales",
    "make",
    "netbase",
    "patchelf",
    "python3",
    "python3-venv",
    "systemd",
    "systemd-container",
    "systemd-coredump",
    "systemd-cryptsetup",
    "systemd-journal-remote",
    "systemd-oomd",
    "systemd-repart",
    "systemd-resolved",
    "systemd-timesyncd",
    "tzdata",
    "udev",
    "vde2",
}

# In `PROGRAMS` because they hold the programs in one suite or another; never asked for by name.
BY_OTHERS: set[str] = {
    "coreutils-from-gnu",
    "coreutils-from-uutils",
    "eject",
    "gnu-coreutils",
    "login.defs",
    "nginx",
    "perl-base",
    "rust-coreutils",
    "util-linux-extra",
}


def wanted() -> list[str]:
    """Debian packages that the root is made with."""
    named = {package for packages in PROGRAMS.values() for package in packages}
    return sorted((named | DEBIAN) - BY_OTHERS)
