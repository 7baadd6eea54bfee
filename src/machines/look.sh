# Tells what a system is. Run by `sh`, with the system's root and files below its /etc.
root=${1%/}
shift
etc=$root/etc
echo "clock $(date +%s%3N)"
if [ -z "$root" ]; then
    profile=/nix/var/nix/profiles/system
    echo "system $(readlink -f /run/current-system 2>/dev/null)"
    generation=$(readlink $profile 2>/dev/null)
    echo "generation $generation"
    number=${generation#*-}
    number=${number%-link}
    before=$(ls -v /nix/var/nix/profiles 2>/dev/null | sed -n 's/^system-\([0-9]*\)-link$/\1/p' |
        awk -v now="${number:-0}" '$1 + 0 < now + 0 { last = $1 } END { print last }')
    [ -n "$before" ] && echo "before $(readlink -f "$profile-$before-link")"
    store=/nix
    [ -d /nix/store ] && store=/nix/store
    echo "free $(df -Pk $store 2>/dev/null | awk 'NR == 2 { print $4 }')"
    echo "nix $(command -v nix-store)"
    [ -e /var/lib/gen-topology/away ] && echo away
    if [ -e /run/booted-system/kernel ] &&
        [ "$(readlink -f /run/booted-system/kernel)" != "$(readlink -f /run/current-system/kernel)" ]; then
        echo kernel
    fi
else
    echo "system $(readlink -f "$root")"
fi
echo "app $(readlink -e $etc/gen-topology/app 2>/dev/null)"
echo "shell python $(readlink -e $etc/gen-topology/python 2>/dev/null)"
# A unit without its triggers: whatever else changes restarts its daemon.
for unit in haproxy keepalived nginx supervisord mongod; do
    file=$etc/systemd/system/$unit.service
    [ -e "$file" ] && echo "shell $unit $(grep -v '^X-.*-Triggers=' "$file" | sha256sum)"
done
awk '$1 == "server" { print "server", $2, $3 }' $etc/haproxy/haproxy.cfg 2>/dev/null | sort -u
cd "$etc" 2>/dev/null && for file in "$@"; do
    [ -f "$file" ] && echo "sum $(sha256sum "./$file")"
done
echo facts
cat $etc/gen-topology/node.json 2>/dev/null
exit 0
