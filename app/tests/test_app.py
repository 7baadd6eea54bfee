"""Behaviour of the app against a faked database: no network, no mongod.

Run with ``python -m unittest discover -s tests`` in the app's folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

import app as web  # noqa: E402
import database  # noqa: E402


class Clock:
    """Stands in for the time module: sleeping only moves the clock.

    Threads that an earlier test has left sleep in earnest, so that they do not move it.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.owner = threading.current_thread()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if threading.current_thread() is self.owner:
            self.now += seconds
        else:
            time.sleep(seconds)


class Collection:
    """The few methods of a pymongo collection the app uses.

    ``before`` and ``after`` hold errors to raise, one a call, before or after an
    insert took effect; ``reads`` the same for reads. ``None`` means no error.
    """

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.before: list[Exception | None] = []
        self.after: list[Exception | None] = []
        self.reads: list[Exception | None] = []
        self.inserted: list[str] = []
        self.options: list[dict[str, Any]] = []
        self.uncommitted = 0  # how many majority reads do not see the document yet
        self.used: list[str] = []

    def with_options(self, **options: Any) -> View:
        return View(self, **options)

    def create_index(self, key: Any) -> None:
        pass

    def insert_one(self, document: dict[str, Any]) -> None:
        self.inserted.append(document["_id"])
        raise_next(self.before)
        if document["_id"] in self.documents:
            raise DuplicateKeyError("E11000", 11000)
        self.documents[document["_id"]] = dict(document)
        raise_next(self.after)

    def find(self) -> Cursor:
        return View(self).find()


class View:
    """A collection with options, so that a test can tell who was asked."""

    def __init__(self, collection: Collection, **options: Any) -> None:
        self.collection = collection
        level = getattr(options.get("read_concern"), "level", None)
        mode = getattr(options.get("read_preference"), "mongos_mode", "default")
        self.name = f"{mode}/{level}" if level else mode

    def _read(self) -> dict[str, dict[str, Any]]:
        self.collection.used.append(self.name)
        raise_next(self.collection.reads)
        return self.collection.documents

    def find(self) -> Cursor:
        return Cursor(list(self._read().values()))

    def find_one(self, query: dict[str, Any], projection: Any = None) -> dict[str, Any] | None:
        documents = self._read()
        if self.collection.uncommitted:
            self.collection.uncommitted -= 1
            return None
        return documents.get(query["_id"])

    def count_documents(self, query: dict[str, Any]) -> int:
        pattern = query["text"]["$regex"] if query else ""
        return sum(bool(re.search(pattern, d["text"])) for d in self._read().values())


class Cursor(list):
    def sort(self, key: str, direction: int) -> Cursor:
        return Cursor(sorted(self, key=lambda d: d[key], reverse=direction < 0))

    def limit(self, number: int) -> Cursor:
        return Cursor(self[:number])


class Client:
    """A replica set of three members with a primary, unless a test says otherwise."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.reachable = True
        self.types = ["RSPrimary", "RSSecondary", "Unknown"]
        self.admin = SimpleNamespace(command=self._command)

    def __getitem__(self, name: str) -> Any:
        return SimpleNamespace(get_collection=lambda *_, **__: self.collection)

    def _command(self, name: str, **options: Any) -> None:
        if not self.reachable:
            raise ServerSelectionTimeoutError("no member")

    @property
    def topology_description(self) -> Any:
        servers = {
            (f"db-{number}", 27017): SimpleNamespace(server_type_name=kind)
            for number, kind in enumerate(self.types, 1)
        }
        return SimpleNamespace(
            has_writable_server=lambda: "RSPrimary" in self.types,
            server_descriptions=lambda: servers,
        )


def raise_next(errors: list[Exception | None]) -> None:
    if errors and (error := errors.pop(0)) is not None:
        raise error


class Case(unittest.TestCase):
    watching = False  # most tests ping by hand

    def setUp(self) -> None:
        self.clock = Clock()
        self.entries = Collection()
        self.mongo = Client(self.entries)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.drain = Path(directory.name, "drain")
        patches = [
            mock.patch.object(database, "_current", None),
            mock.patch.object(database.pymongo, "MongoClient", return_value=self.mongo),
            mock.patch.dict(web.app.config, DRAIN_FILE=str(self.drain), DATABASE_GRACE=4.3),
            mock.patch.object(database.log, "disabled", True),
            mock.patch.object(web.app.logger, "disabled", True),
        ]
        if not self.watching:
            patches += [
                mock.patch.object(database, "time", self.clock),
                mock.patch.object(database, "FIRST_PING_WAIT", 0.0),
                mock.patch.object(database.Database, "_watch", lambda self: None),
            ]
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)
        self.http = web.app.test_client()

    def ping(self) -> None:
        web.database()._ping()

    def post(self, text: Any, **more: Any) -> Any:
        return self.http.post("/api/entries", json={"text": text, **more})

    def add(self, *texts: str) -> None:
        for text in texts:
            self.assertEqual(self.post(text).status_code, 201)


class PasswordTest(Case):
    """User and password come from a file, and may change while the app runs."""

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.drain.parent, "credentials")
        self.file.write_text("app-1:first\n")
        self.clients: list[dict[str, Any]] = []
        self.accepted = {"first"}

        def connect(uri: str, **options: Any) -> Any:
            self.clients.append(options)
            client = Client(self.entries)
            client.closed = False
            client.close = lambda: setattr(client, "closed", True)

            def command(name: str, **more: Any) -> None:
                if options.get("password") not in self.accepted:
                    raise OperationFailure("Authentication failed.", 18)

            client.admin.command = command
            return client

        for patch in (
            mock.patch.object(database.pymongo, "MongoClient", side_effect=connect),
            mock.patch.dict(web.app.config, MONGODB_CREDENTIALS_FILE=str(self.file)),
            mock.patch.object(database.threading, "Timer"),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def tick(self) -> str:
        db = web.database()
        db._renew()
        db._ping()
        return db.state()

    def user(self) -> str:
        return str(self.clients[-1].get("username"))

    def test_the_file_says_who_asks(self) -> None:
        self.assertEqual(self.tick(), "primary")
        self.assertEqual((self.user(), self.clients[0]["password"]), ("app-1", "first"))

    def test_a_new_password_takes_over_as_soon_as_it_is_accepted(self) -> None:
        self.tick()
        old = web.database().client
        self.file.write_text("app-2:second\napp-1:first\n")
        self.assertEqual(self.tick(), "primary")  # the new user is not there yet
        self.assertEqual(self.user(), "app-1")
        self.assertFalse(old.closed)  # requests that have begun go on with it
        self.accepted = {"first", "second"}
        self.file.write_text("app-2:second\n")
        self.assertEqual(self.tick(), "primary")
        self.assertEqual(self.user(), "app-2")

    def test_the_old_password_works_until_the_new_one_does(self) -> None:
        self.file.write_text("app-2:second\napp-1:first\n")
        self.assertNotEqual(self.tick(), "primary")  # the first ping is refused
        self.assertEqual(self.tick(), "primary")
        self.assertEqual(self.user(), "app-1")

    def test_nothing_is_made_while_nothing_changes(self) -> None:
        for _ in range(5):
            self.tick()
        self.assertEqual(len(self.clients), 1)

    def test_without_the_file_it_is_not_ready_and_comes_to_itself(self) -> None:
        self.file.unlink()
        self.assertNotEqual(self.tick(), "primary")
        self.file.write_text("app-1:first\n")
        self.assertEqual(self.tick(), "primary")


class HealthTest(Case):
    def test_healthz_answers_without_the_database(self) -> None:
        with mock.patch.object(web, "get_database", side_effect=AssertionError):
            answer = self.http.get("/healthz")
        self.assertEqual((answer.status_code, answer.json["status"]), (200, "ok"))

    def test_ready_with_a_primary(self) -> None:
        self.ping()
        answer = self.http.get("/readyz")
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(
            answer.json, {"ready": True, "database": "primary", "node": web.NODE}
        )

    def test_ready_with_secondaries_only(self) -> None:
        self.mongo.types = ["Unknown", "RSSecondary", "RSSecondary"]
        self.ping()
        answer = self.http.get("/readyz")
        self.assertEqual((answer.status_code, answer.json["database"]), (200, "secondary-only"))

    def test_draining_is_404_and_ends_with_the_file(self) -> None:
        self.ping()
        self.drain.touch()
        answer = self.http.get("/readyz")
        self.assertEqual((answer.status_code, answer.json["ready"]), (404, False))
        self.drain.unlink()
        self.assertEqual(self.http.get("/readyz").status_code, 200)

    def test_a_fresh_process_has_no_grace(self) -> None:
        self.mongo.reachable = False
        self.ping()
        answer = self.http.get("/readyz")
        self.assertEqual((answer.status_code, answer.json["database"]), (503, "starting"))
        self.assertIs(answer.json["ready"], False)

    def test_grace_after_the_last_answer(self) -> None:
        self.ping()
        self.mongo.reachable = False
        self.clock.now += 4.2
        self.ping()
        answer = self.http.get("/readyz")
        self.assertEqual((answer.status_code, answer.json["database"]), (200, "unreachable-grace"))
        self.clock.now += 0.2
        answer = self.http.get("/readyz")
        self.assertEqual((answer.status_code, answer.json["database"]), (503, "unreachable"))
        self.mongo.reachable = True
        self.ping()
        self.assertEqual(self.http.get("/readyz").status_code, 200)


class WatcherTest(Case):
    watching = True

    def test_the_first_call_waits_for_the_first_ping(self) -> None:
        self.mongo.admin.command = lambda *_, **__: time.sleep(0.1)
        answer = self.http.get("/readyz")
        self.assertEqual((answer.status_code, answer.json["database"]), (200, "primary"))

    def test_it_keeps_trying_quickly_until_the_database_answers(self) -> None:
        self.mongo.reachable = False
        self.assertEqual(self.http.get("/readyz").status_code, 503)
        self.mongo.reachable = True
        came_back = time.monotonic()
        while self.http.get("/readyz").status_code != 200:
            self.assertLess(time.monotonic() - came_back, 0.4)
            time.sleep(0.01)

    def test_importing_opens_nothing(self) -> None:
        code = (
            "import pymongo, threading\n"
            "def refuse(*a, **k): raise AssertionError('a client at import')\n"
            "pymongo.MongoClient = refuse\n"
            "import app\n"
            "assert threading.active_count() == 1, threading.enumerate()\n"
            "assert app.app.test_client().get('/healthz').status_code == 200\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_forked_process_gets_its_own_client(self) -> None:
        first = web.database()
        self.assertIs(web.database(), first)
        with mock.patch.object(database.os, "getpid", return_value=os.getpid() + 1):
            self.assertIsNot(web.database(), first)


class WriteTest(Case):
    def test_create(self) -> None:
        answer = self.post("  hello  ", id="one")
        self.assertEqual(answer.status_code, 201)
        self.assertEqual(answer.json, {"id": "one", "node": web.NODE})
        stored = self.entries.documents["one"]
        self.assertEqual((stored["text"], stored["node"]), ("hello", web.NODE))
        self.assertEqual(stored["created"].utcoffset().total_seconds(), 0)

    def test_an_id_is_made_when_none_is_given(self) -> None:
        self.assertRegex(self.post("hello").json["id"], "^[0-9a-f]{32}$")

    def test_bad_input_is_refused(self) -> None:
        for text in ("", "   ", "x" * 281, 5, None, "\0", "\ud800"):
            with self.subTest(text=text):
                answer = self.post(text)
                self.assertEqual(answer.status_code, 400)
                self.assertIn("error", answer.json)
        for data in ("[]", "nonsense", '"text"'):
            with self.subTest(data=data):
                answer = self.http.post("/api/entries", data=data, content_type="application/json")
                self.assertEqual(answer.status_code, 400)
        self.assertEqual(self.post("fine", id="not fine").status_code, 400)
        self.assertEqual(self.entries.documents, {})

    def test_the_longest_text_is_accepted(self) -> None:
        self.add("x" * 280)

    def test_a_large_request_is_refused(self) -> None:
        answer = self.post("x" * 70_000)
        self.assertEqual(answer.status_code, 413)
        self.assertIn("error", answer.json)

    def test_transient_errors_are_repeated_with_the_same_id(self) -> None:
        self.entries.before = [
            ServerSelectionTimeoutError("election"),
            NotPrimaryError("stepped down"),
            AutoReconnect("connection reset"),
        ]
        answer = self.post("hello", id="one")
        self.assertEqual(answer.status_code, 201)
        self.assertEqual(self.entries.inserted, ["one"] * 4)
        self.assertEqual(list(self.entries.documents), ["one"])

    def test_a_duplicate_of_our_own_attempt_is_success(self) -> None:
        for error in (AutoReconnect("no answer"), WTimeoutError("no majority yet", 64, {})):
            with self.subTest(error=error):
                self.entries.documents.clear()
                self.entries.after = [error]
                self.assertEqual(self.post("hello", id="one").status_code, 201)
                self.assertEqual(len(self.entries.documents), 1)

    def test_a_duplicate_counts_once_a_majority_has_it(self) -> None:
        self.entries.after = [AutoReconnect("no answer")]
        self.entries.uncommitted = 2
        self.assertEqual(self.post("hello", id="one").status_code, 201)
        self.assertEqual(self.entries.used, ["primary/majority"] * 3)

    def test_the_same_entry_twice_is_one(self) -> None:
        self.assertEqual(self.post("hello", id="one").status_code, 201)
        self.assertEqual(self.post("hello", id="one").status_code, 201)
        self.assertEqual(len(self.entries.documents), 1)

    def test_an_id_with_another_text_is_refused(self) -> None:
        self.post("hello", id="one")
        self.assertEqual(self.post("good bye", id="one").status_code, 409)
        self.assertEqual(self.entries.documents["one"]["text"], "hello")

    def test_503_when_nothing_was_ever_sent(self) -> None:
        self.entries.before = [ServerSelectionTimeoutError("no primary")] * 1000
        began = self.clock.now
        answer = self.post("hello")
        self.assertEqual(answer.status_code, 503)
        self.assertIn("error", answer.json)
        self.assertLessEqual(self.clock.now - began, database.BUDGET)
        self.assertGreater(self.clock.now - began, database.BUDGET - 1)

    def test_500_when_any_attempt_may_have_been_sent(self) -> None:
        waiting = [ServerSelectionTimeoutError("no primary")]
        for sent in (AutoReconnect("reset"), WTimeoutError("no majority", 64, {})):
            for errors in ([sent] + waiting * 1000, waiting + [sent] + waiting * 1000):
                with self.subTest(errors=errors[:2]):
                    self.entries.before = list(errors)
                    self.assertEqual(self.post("hello").status_code, 500)

    def test_500_when_a_duplicate_cannot_be_confirmed(self) -> None:
        self.post("hello", id="one")
        self.entries.reads = [ServerSelectionTimeoutError("no primary")] * 1000
        self.assertEqual(self.post("hello", id="one").status_code, 500)

    def test_lasting_errors_are_not_repeated(self) -> None:
        self.entries.before = [OperationFailure("not authorized", 13)] * 1000
        self.assertEqual(self.post("hello").status_code, 500)
        self.assertEqual(len(self.entries.inserted), 1)


class ReadTest(Case):
    def test_newest_first_and_limited(self) -> None:
        self.add("first", "second", "third")
        answer = self.http.get("/api/entries?limit=2")
        self.assertEqual(answer.json["node"], web.NODE)
        self.assertEqual([e["text"] for e in answer.json["entries"]], ["third", "second"])
        self.assertEqual(set(answer.json["entries"][0]), {"id", "text", "node", "created"})
        self.assertRegex(
            answer.json["entries"][0]["created"], r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00$"
        )
        self.assertEqual(self.http.get("/api/entries?limit=0").status_code, 400)

    def test_strong_reads_ask_the_primary_for_what_a_majority_has(self) -> None:
        self.http.get("/api/entries?consistency=strong")
        self.http.get("/api/entries/one")
        self.http.get("/api/count")
        self.assertEqual(self.entries.used, ["primary/majority"] * 3)

    def test_plain_reads_follow_the_uri_then_try_a_secondary(self) -> None:
        self.entries.reads = [AutoReconnect("the primary is silent")]
        self.assertEqual(self.http.get("/api/entries").status_code, 200)
        self.assertEqual(self.entries.used, ["default", "secondaryPreferred"])

    def test_strong_reads_wait_for_a_primary(self) -> None:
        self.post("hello", id="one")
        self.entries.reads = [ServerSelectionTimeoutError("election")] * 2
        self.assertEqual(self.http.get("/api/entries/one").json["text"], "hello")

    def test_a_failed_read_is_503(self) -> None:
        for path in ("/api/entries", "/api/entries/one", "/api/count"):
            with self.subTest(path=path):
                self.entries.reads = [ServerSelectionTimeoutError("nobody")] * 1000
                answer = self.http.get(path)
                self.assertEqual(answer.status_code, 503)
                self.assertIn("error", answer.json)

    def test_one_entry(self) -> None:
        self.post("hello", id="one")
        self.assertEqual(self.http.get("/api/entries/one").json["text"], "hello")
        answer = self.http.get("/api/entries/two")
        self.assertEqual((answer.status_code, answer.json["node"]), (404, web.NODE))

    def test_count_takes_the_prefix_literally(self) -> None:
        self.add("a.b one", "a.b two", "axb three", "one a.b")
        for prefix, number in (("a.b", 2), ("", 4), ("(", 0)):
            with self.subTest(prefix=prefix):
                answer = self.http.get("/api/count", query_string={"prefix": prefix})
                self.assertEqual(answer.json, {"count": number})
        self.assertEqual(self.http.get("/api/count?prefix=%00").status_code, 400)

    def test_status(self) -> None:
        self.ping()
        answer = self.http.get("/api/status").json
        self.assertEqual(answer["primary"], "db-1:27017")
        self.assertEqual(
            answer["members"],
            [
                {"address": "db-1:27017", "state": "primary"},
                {"address": "db-2:27017", "state": "secondary"},
                {"address": "db-3:27017", "state": "unreachable"},
            ],
        )
        self.assertEqual(
            (answer["node"], answer["version"], answer["database"]),
            (web.NODE, web.__version__, "primary"),
        )
        self.mongo.types[0] = "Unknown"
        self.assertIsNone(self.http.get("/api/status").json["primary"])


class PageTest(Case):
    def form(self, text: str, **more: str) -> Any:
        return self.http.post("/entries", data={"text": text, **more})

    def test_entries_are_shown_and_escaped(self) -> None:
        self.add("<script>alert('hello')</script>")
        page = self.http.get("/")
        self.assertEqual(page.status_code, 200)
        self.assertNotIn("<script>", page.text)
        self.assertIn("&lt;script&gt;alert(&#39;hello&#39;)&lt;/script&gt;", page.text)
        self.assertIn("db-1:27017", page.text)
        self.assertIn(web.NODE, page.text)

    def test_only_the_newest_fifty_are_shown(self) -> None:
        self.add(*(f"entry number {number}." for number in range(51)))
        page = self.http.get("/").text
        self.assertIn("entry number 50.", page)
        self.assertIn("entry number 1.", page)
        self.assertNotIn("entry number 0.", page)

    def test_the_form_adds_one_entry_however_often_it_is_sent(self) -> None:
        page = self.http.get("/").text
        (entry_id,) = re.findall(r'name="id" value="([0-9a-f]{32})"', page)
        self.assertNotIn(entry_id, self.http.get("/").text)
        for _ in range(2):
            answer = self.form("hello", id=entry_id)
            self.assertEqual((answer.status_code, answer.location), (303, "/"))
        self.assertEqual(list(self.entries.documents), [entry_id])

    def test_an_empty_entry_is_refused_kindly(self) -> None:
        page = self.form("   ")
        self.assertEqual(page.status_code, 400)
        self.assertIn(web.EMPTY, page.text)
        self.assertEqual(self.entries.documents, {})

    def test_a_used_form_keeps_the_text_and_gets_a_new_id(self) -> None:
        self.form("hello", id="one")
        page = self.form("good bye", id="one")
        self.assertEqual(page.status_code, 409)
        self.assertIn("good bye</textarea>", page.text)
        self.assertRegex(page.text, r'name="id" value="[0-9a-f]{32}"')

    def test_a_failed_write_keeps_the_text_and_the_id(self) -> None:
        nobody = ServerSelectionTimeoutError("no primary")
        cases = [(503, web.UNTOUCHED, [nobody] * 1000)]
        cases.append((500, web.UNKNOWN, [AutoReconnect("reset")] + [nobody] * 1000))
        for status, message, errors in cases:
            with self.subTest(status=status):
                self.entries.before = list(errors)
                page = self.form("</textarea>my text", id="one")
                self.assertEqual(page.status_code, status)
                self.assertIn(message, page.text)
                self.assertIn("&lt;/textarea&gt;my text</textarea>", page.text)
                self.assertIn('name="id" value="one"', page.text)

    def test_the_page_renders_without_a_database(self) -> None:
        self.entries.reads = [ServerSelectionTimeoutError("nobody")] * 1000
        self.mongo.types = ["Unknown"] * 3
        page = self.http.get("/")
        self.assertEqual(page.status_code, 200)
        self.assertIn("cannot be shown right now", page.text)
        self.assertIn("<form", page.text)

    def test_the_page_renders_in_every_state(self) -> None:
        states = ("primary", "secondary-only", "unreachable-grace", "unreachable", "starting")
        for state in states:
            given = mock.patch.object(database.Database, "state", return_value=state)
            with self.subTest(state=state), given:
                self.assertEqual(self.http.get("/").status_code, 200)

    def test_nothing_comes_from_another_host(self) -> None:
        page = self.http.get("/").text
        style = (HERE / "static" / "style.css").read_text()
        self.assertNotRegex(page + style, r"(src|href|url|action)\W{1,3}(https?:)?//")
        self.assertNotRegex(page, r"<script>|<style|style=|</script>.*\S.*</script>")
        script = (HERE / "static" / "status.js").read_text()
        self.assertNotRegex(script, r"https?:|innerHTML|eval\(")

    def test_the_form_says_when_writing_pauses(self) -> None:
        for state, hidden in (("primary", True), ("secondary-only", False), ("unreachable", False)):
            given = mock.patch.object(database.Database, "state", return_value=state)
            with self.subTest(state=state), given:
                notice = re.search(r'id="pause"[^>]*>', self.http.get("/").text)
                self.assertEqual("hidden" in notice[0], hidden)

    def test_the_script_knows_what_the_page_knows(self) -> None:
        page = (HERE / "templates" / "index.html").read_text()
        script = (HERE / "static" / "status.js").read_text()
        for level, words in re.findall(r"\('(good|fair|poor)', '([^']+)'\)", page):
            self.assertIn(f'["{level}", "{words}"]', script)
        for name in re.findall(r'\["([a-z-]+)"(?:, "([a-z-]+)")?\]\) \{', script):
            for id_ in filter(None, name):
                self.assertIn(f'id="{id_}"', page)
        for id_ in ("members", "pause", "state", "answered", "state-above", "answered-above"):
            self.assertIn(f'id="{id_}"', page)
            self.assertIn(f'"{id_}"', script)


class HeaderTest(Case):
    def test_every_response_names_the_node(self) -> None:
        self.drain.touch()
        for path in ("/", "/healthz", "/readyz", "/missing", "/api/missing", "/static/style.css"):
            with self.subTest(path=path), self.http.get(path) as answer:
                self.assertEqual(answer.headers["X-App-Node"], web.NODE)
                self.assertIn("default-src 'self'", answer.headers["Content-Security-Policy"])

    def test_api_errors_are_json(self) -> None:
        for answer in (self.http.get("/api/missing"), self.http.delete("/api/entries")):
            self.assertIn("error", answer.json)

    def test_an_unexpected_error_names_the_node_too(self) -> None:
        with mock.patch.object(web, "get_database", side_effect=RuntimeError("a defect")):
            answer = self.http.get("/api/status")
        self.assertEqual((answer.status_code, answer.json["node"]), (500, web.NODE))
        self.assertEqual(answer.headers["X-App-Node"], web.NODE)


if __name__ == "__main__":
    unittest.main()
