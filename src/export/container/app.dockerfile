# nginx, gunicorn and the application; nothing runs as root. What is built here is the application's
# directory. Configuration is not in the image: it is mounted at /node.
ARG DEBIAN=debian:12
ARG PROGRAM={{PROGRAM}}
FROM ${PROGRAM} AS program
# pip and its compilers stay behind in this stage.
FROM ${DEBIAN} AS packages
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY ["{{REQUIREMENTS}}", "/tmp/requirements.txt"]
RUN python3 -m venv /opt/python && /opt/python/bin/pip install --no-cache-dir --requirement /tmp/requirements.txt
FROM ${DEBIAN}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends nginx-light python3 supervisor \
    && rm -rf /var/lib/apt/lists/* /etc/nginx /etc/supervisor \
    && groupadd --system --gid 64010 app \
    && useradd --system --uid 64010 --gid app --no-create-home app \
    && mkdir -p /etc/gen-topology /node \
    && install -d -o app -g app /var/log/gunicorn /var/log/nginx /var/log/supervisor /var/lib/nginx /opt/app \
    && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log \
    && ln -s /node/etc/nginx /node/etc/gunicorn /node/etc/supervisor /etc/ \
    && ln -s /node/node.json /opt/python /opt/app /etc/gen-topology/
COPY --from=packages /opt/python /opt/python
COPY --from=program /gen-topology /etc/gen-topology/gen-topology
COPY . /opt/app
ENTRYPOINT ["/bin/sh", "/node/start", "app"]
CMD ["supervisord", "--nodaemon", "--configuration=/etc/supervisor/supervisord.conf", "--pidfile=/run/supervisor/supervisord.pid"]
