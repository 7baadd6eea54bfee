"""A small Flask application behind load balancers."""

import os
import socket

from flask import Flask, render_template, request
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
# haproxy tells who the visitor is and what was asked for, in one header each.
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_port=1)


@app.get("/")
def index():
    return render_template(
        "index.html",
        name="Hello",
        framework="Flask",
        node=socket.gethostname(),
        visitor=request.remote_addr,
    )


@app.get("/readyz")
def readyz():
    """haproxy asks once a second: 200 serves, 404 gets no new requests, 503 is not well."""
    if os.path.exists(os.environ.get("DRAIN_FILE", "")):
        return "draining\n", 404
    return "ready\n"
