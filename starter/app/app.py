"""The example application of gen-topology: a page of entries kept in a MongoDB replica set.

WSGI entry point: ``app:app``. Importing this module opens no connection and
starts no thread, so gunicorn may preload it and fork.
"""

from __future__ import annotations

import os
import re
import socket
from datetime import datetime
from typing import Any
from uuid import uuid4

from flask import Flask, Response, abort, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pymongo.errors import PyMongoError
from werkzeug.exceptions import HTTPException

from database import Conflict, Database, Entry, NotStored, get_database

__version__ = "1.0.0"

NODE = socket.gethostname()
MAX_TEXT = 280
PAGE_ENTRIES = 50
MAX_ENTRIES = 500
ID = re.compile(r"[0-9A-Za-z_-]{1,64}")

EMPTY = "Please write something first: an entry needs at least one character."
UNREADABLE = "That text holds a character that cannot be stored. Please write it another way."
TOO_LONG = f"That is a little too long: an entry may have up to {MAX_TEXT} characters."
TAKEN = "This form had already been used for another entry. Press the button again to add this one."
UNTOUCHED = "The database takes no entries right now, so nothing was saved. Please try again in a moment."
UNKNOWN = "It is not certain whether your entry was saved. Trying again is safe: it is never added twice."

app = Flask(__name__)
app.config.from_mapping(
    MONGODB_URI=os.environ.get("MONGODB_URI", "mongodb://127.0.0.1:27017/?w=majority"),
    MONGODB_CREDENTIALS_FILE=os.environ.get("MONGODB_CREDENTIALS_FILE", ""),
    MONGODB_DATABASE=os.environ.get("MONGODB_DATABASE", "web"),
    DRAIN_FILE=os.environ.get("DRAIN_FILE", "/run/gen-topology/drain"),
    DATABASE_GRACE=float(os.environ.get("DATABASE_GRACE", "4.3")),
    MAX_CONTENT_LENGTH=64 * 1024,
    SEND_FILE_MAX_AGE_DEFAULT=3600,
)


def database() -> Database:
    config = app.config
    return get_database(
        config["MONGODB_URI"],
        config["MONGODB_DATABASE"],
        config["DATABASE_GRACE"],
        config["MONGODB_CREDENTIALS_FILE"],
    )


def clean_text(raw: Any) -> str:
    """The text of a new entry, trimmed. Raises ``ValueError`` with a message for the visitor."""
    if not isinstance(raw, str):
        raise ValueError("text must be a string")
    text = raw.replace("\r\n", "\n").strip()
    if not text:
        raise ValueError(EMPTY)
    if len(text) > MAX_TEXT:
        raise ValueError(TOO_LONG)
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(UNREADABLE)
    return text


def is_id(value: Any) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def public(entry: Entry) -> dict[str, str]:
    created = entry["created"].isoformat(timespec="milliseconds")
    return {"id": entry["_id"], "text": entry["text"], "node": entry["node"], "created": created}


def failure(status: int, message: str) -> tuple[Response, int]:
    return jsonify(error=message, node=NODE), status


@app.template_filter()
def moment(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC"


@app.template_filter()
def tint(node: str) -> int:
    """The colour of a node's badge: the same everywhere, and app-1, app-2, ... differ."""
    return sum(node.encode()) % 6


# The page


def page(
    status: int = 200,
    *,
    text: str = "",
    entry_id: str | None = None,
    message: str | None = None,
    read: bool = True,
) -> ResponseReturnValue:
    """The page, with a problem and the visitor's text if there was one. It always renders."""
    db = database()
    state = db.state()
    entries: list[Entry] | None = None
    if read:
        try:
            entries = db.newest(PAGE_ENTRIES)
        except PyMongoError as error:
            app.logger.warning("the page is shown without entries: %s", error)
    return render_template(
        "index.html",
        entries=entries,
        entry_id=entry_id or uuid4().hex,
        max_text=MAX_TEXT,
        members=db.members(),
        message=message,
        node=NODE,
        state=state,
        text=text,
        version=__version__,
    ), status


@app.get("/")
def index() -> ResponseReturnValue:
    return page()


@app.post("/entries")
def submit() -> ResponseReturnValue:
    raw = request.form.get("text", "")
    entry_id = request.form.get("id")
    if entry_id is None or not is_id(entry_id):
        entry_id = uuid4().hex
    try:
        database().add(entry_id, clean_text(raw), NODE)
    except ValueError as error:
        return page(400, text=raw, entry_id=entry_id, message=str(error))
    except Conflict:
        return page(409, text=raw, message=TAKEN)
    except NotStored as error:  # the time for this answer is spent, so it reads nothing
        status, message = (503, UNTOUCHED) if error.untouched else (500, UNKNOWN)
        return page(status, text=raw, entry_id=entry_id, message=message, read=False)
    return redirect(url_for("index"), 303)


# Health


@app.get("/healthz")
def healthz() -> ResponseReturnValue:
    return jsonify(status="ok", node=NODE, version=__version__)


@app.get("/readyz")
def readyz() -> ResponseReturnValue:
    """200: send requests. 404: send no new ones (draining). 503: cannot serve."""
    if os.path.exists(app.config["DRAIN_FILE"]):
        return jsonify(ready=False, draining=True, node=NODE), 404
    state = database().state()
    ready = state not in ("starting", "unreachable")
    return jsonify(ready=ready, database=state, node=NODE), 200 if ready else 503


# API


@app.get("/api/status")
def api_status() -> ResponseReturnValue:
    db = database()
    state, members = db.state(), db.members()
    primary = next((member["address"] for member in members if member["state"] == "primary"), None)
    return jsonify(node=NODE, version=__version__, database=state, primary=primary, members=members)


@app.get("/api/entries")
def api_entries() -> ResponseReturnValue:
    limit = request.args.get("limit", PAGE_ENTRIES, int)
    if not 1 <= limit <= MAX_ENTRIES:
        return failure(400, f"limit must be from 1 to {MAX_ENTRIES}")
    strong = request.args.get("consistency") == "strong"
    entries = database().newest_committed(limit) if strong else database().newest(limit)
    return jsonify(node=NODE, entries=[public(entry) for entry in entries])


@app.post("/api/entries")
def api_add() -> ResponseReturnValue:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        return failure(400, "the body must be a JSON object")
    entry_id = body.get("id")
    if entry_id is None:
        entry_id = uuid4().hex
    elif not is_id(entry_id):
        return failure(400, "id must be 1 to 64 letters, digits, - or _")
    try:
        database().add(entry_id, clean_text(body.get("text")), NODE)
    except ValueError as error:
        return failure(400, str(error))
    except Conflict:
        return failure(409, "this id belongs to an entry with another text")
    except NotStored as error:
        return failure(503 if error.untouched else 500, str(error))
    return jsonify(id=entry_id, node=NODE), 201


@app.get("/api/entries/<entry_id>")
def api_entry(entry_id: str) -> ResponseReturnValue:
    entry = database().find(entry_id)
    if entry is None:
        abort(404, "there is no such entry")
    return jsonify(public(entry))


@app.get("/api/count")
def api_count() -> ResponseReturnValue:
    prefix = request.args.get("prefix", "")
    if "\0" in prefix:
        return failure(400, "prefix must not hold a NUL character")
    return jsonify(count=database().count(prefix))


# Every response


@app.errorhandler(PyMongoError)
def database_error(error: PyMongoError) -> ResponseReturnValue:
    """A read that found no member to answer. Nothing was changed, so it may be repeated."""
    app.logger.warning("%s: %s", request.path, error)
    return failure(503, "the database cannot be read right now")


@app.errorhandler(HTTPException)
def http_error(error: HTTPException) -> ResponseReturnValue:
    if error.code is not None and request.path.startswith("/api/"):
        return failure(error.code, error.description or error.name)
    return error


@app.after_request
def common_headers(response: Response) -> Response:
    headers = response.headers
    headers["X-App-Node"] = NODE
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Content-Security-Policy"] = (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    if request.endpoint != "static":
        headers["Cache-Control"] = "no-store"
    return response
