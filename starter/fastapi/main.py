"""A small FastAPI application behind load balancers."""

import html
import os
import socket
from pathlib import Path

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse

app = FastAPI()
PAGE = (Path(__file__).parent / "templates/index.html").read_text(encoding="utf-8")


@app.get("/")
async def index(request: Request) -> HTMLResponse:
    values = {
        "name": "Hello",
        "framework": "FastAPI",
        "node": socket.gethostname(),
        # haproxy tells who the visitor is.
        "visitor": request.headers.get("x-real-ip", "unknown"),
    }
    page = PAGE
    for name, value in values.items():
        page = page.replace("{{ " + name + " }}", html.escape(value))
    return HTMLResponse(page)


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@app.get("/readyz")
async def readyz(response: Response) -> str:
    """haproxy asks once a second: 200 serves, 404 gets no new requests, 503 is not well."""
    if os.path.exists(os.environ.get("DRAIN_FILE", "")):
        response.status_code = 404
        return "draining"
    return "ready"
