#!/bin/sh
# Tells everything that is missing before the stack can be started; silent if nothing is.
set -u
cd "$(dirname "$0")" || exit 1
bad=0
miss() {
    echo "check: $*" >&2
    bad=1
}
# at_least VERSION LEAST
at_least() {
    [ "$(printf '%s\n' "$2" "$1" | sort --version-sort | head -n 1)" = "$2" ]
}

if ! command -v docker >/dev/null; then
    miss "there is no docker here; on Debian: apt-get install docker.io docker-compose"
elif ! engine=$(docker version --format '{{.Server.Version}}' 2>&1); then
    miss "no engine answers; start it (systemctl start docker) or say in DOCKER_HOST where it is: $engine"
elif ! at_least "$engine" 20.10; then
    miss "the engine is $engine, too old: 20.10 or later is needed; on Debian 12: apt-get install docker.io"
elif ! docker image inspect {{PROGRAM}} >/dev/null 2>&1; then
    miss "there is no image {{PROGRAM}}; README.md tells how to make it"
fi
if ! compose=$(docker compose version --short 2>/dev/null) && ! compose=$(docker-compose version --short 2>/dev/null); then
    miss "Docker Compose is missing; on Debian: apt-get install docker-compose"
elif ! at_least "${compose#v}" 1.29; then
    miss "Compose is $compose, too old: 1.29 or later is needed; on Debian 12: apt-get install docker-compose"
fi
directory={{DIRECTORY}}
topology={{TOPOLOGY}}
for secret in {{SECRETS}}; do
    case $secret in
        app/*) command="set ${secret#app/}" ;;
        *) command=init ;;
    esac
    [ -f "$directory/$secret" ] || miss "the secret $secret is missing; run: gen-topology secrets -f $topology $command"
done
{{CERTIFICATES}}exit "$bad"
