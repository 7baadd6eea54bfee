"""The site's pages."""

import os
import socket

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path


def index(request):
    return render(
        request,
        "index.html",
        {
            "name": "Hello",
            "framework": "Django",
            "node": socket.gethostname(),
            "visitor": request.headers.get("X-Real-IP", request.META["REMOTE_ADDR"]),
        },
    )


def readyz(request):
    """haproxy asks once a second: 200 serves, 404 gets no new requests, 503 is not well."""
    if os.path.exists(os.environ.get("DRAIN_FILE", "")):
        return HttpResponse("draining\n", status=404)
    return HttpResponse("ready\n")


urlpatterns = [path("", index), path("readyz", readyz)]
