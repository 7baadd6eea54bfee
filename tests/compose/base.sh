#!/bin/sh
# Makes the image debian:12 out of Debian's packages: no registry of images is needed. Usage: base FILE
# What this machine trusts and how its pip is set up go with it, since images are built from where it fetches.
set -eu
set -- "$1" --variant=minbase --quiet \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'
for path in /usr/local/share/ca-certificates /etc/pip.conf; do
    if [ -e "$path" ]; then
        set -- "$@" --customize-hook="copy-in $path $(dirname "$path")"
    fi
done
file=$1
shift
mmdebstrap "$@" bookworm "$file.new.tar"
mv "$file.new.tar" "$file"
