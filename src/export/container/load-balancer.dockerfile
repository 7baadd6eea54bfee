# haproxy, Keepalived and what keeps the virtual IP where it is served. Configuration is not in the
# image: it is mounted at /node. Pin what it begins with by digest: --build-arg DEBIAN=debian@sha256:…
ARG DEBIAN=debian:12
ARG PROGRAM={{PROGRAM}}
FROM ${PROGRAM} AS program
FROM ${DEBIAN}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends haproxy iproute2 keepalived nftables supervisor \
    && rm -rf /var/lib/apt/lists/* /etc/haproxy /etc/keepalived /etc/supervisor \
    && mkdir -p /etc/gen-topology /node \
    && ln -s /node/etc/haproxy /node/etc/keepalived /node/etc/supervisor /etc/ \
    && ln -s /node/node.json /node/etc/gen-topology/firewall.nft /etc/gen-topology/
COPY --from=program /gen-topology /etc/gen-topology/gen-topology
ENTRYPOINT ["/bin/sh", "/node/start", "root"]
CMD ["supervisord", "--nodaemon", "--configuration=/etc/supervisor/supervisord.conf", "--pidfile=/run/supervisor/supervisord.pid"]
