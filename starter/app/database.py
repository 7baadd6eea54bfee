"""The app's view of MongoDB: one client per process, and a cached opinion of its health.

Nothing here runs at import. gunicorn preloads the app and then forks, and a
``MongoClient`` must not cross a fork, so :func:`get_database` makes one lazily
for each process. Everything about the connection is set in the URI, except user and
password: those are in a file, and when it changes a new client takes over.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pymongo
from bson.codec_options import CodecOptions
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import Nearest, Primary, SecondaryPreferred

log = logging.getLogger(__name__)

T = TypeVar("T")
Login = tuple[str, str]  # user, password
Entry = dict[str, Any]  # {"_id": str, "text": str, "node": str, "created": datetime}

BUDGET = 9.0  # seconds a write, or a read from the primary, may take in all
ATTEMPT = 4.0  # seconds of one attempt, so that a silent member leaves time for another
PAUSE = 0.1  # seconds between two attempts, and between pings while none succeeds
PING_INTERVAL = 1.0  # seconds between pings while all is well
PING_LIMIT = 0.5  # seconds one ping may take
RETIREMENT = 12.0  # seconds until a client with an old password is closed: longer than any request
FIRST_PING_WAIT = 0.3  # seconds a new process may keep its first callers waiting
READ_LIMIT, READ_LIMIT_DOWN = 1.5, 0.25  # seconds per read of the page: usually / after a failed ping

AUTHENTICATION_FAILED = 18  # the server's error code

STATES = {
    "RSPrimary": "primary",
    "RSSecondary": "secondary",
    "RSArbiter": "arbiter",
    "RSOther": "recovering",
    "RSGhost": "not initiated",
    "Mongos": "router",
    "Standalone": "standalone",
    "LoadBalancer": "load balancer",
}


class NotStored(Exception):
    """A write did not succeed. If ``untouched``, nothing was sent, so it is safe to repeat."""

    def __init__(self, untouched: bool) -> None:
        super().__init__("nothing was written" if untouched else "the outcome is unknown")
        self.untouched = untouched


class Conflict(Exception):
    """The id already belongs to an entry with another text."""


def is_transient(error: PyMongoError) -> bool:
    """Whether the same operation may succeed a little later (an election, a lost connection)."""
    return (
        isinstance(error, (ConnectionFailure, ExecutionTimeout, WriteConcernError))
        or error.timeout
        or error.has_error_label("RetryableWriteError")
    )


def persist(operation: Callable[[], T]) -> T:
    """Repeat ``operation`` on transient errors until it succeeds or ``BUDGET`` is used up."""
    deadline = time.monotonic() + BUDGET
    while True:
        try:
            with pymongo.timeout(min(ATTEMPT, deadline - time.monotonic())):
                return operation()
        except PyMongoError as error:
            # Too little time for another attempt counts as none.
            if not is_transient(error) or time.monotonic() + 2 * PAUSE >= deadline:
                raise
            time.sleep(PAUSE)


def read_logins(path: str) -> list[Login]:
    """Users and passwords of a file, one ``user:password`` a line, the newest first.

    Without a path there are none, and the database is used without a password.
    """
    if not path:
        return []
    with open(path, encoding="utf-8") as file:
        lines = [line.strip().partition(":") for line in file if line.strip()]
    return [(user, password) for user, _, password in lines]


class Database:
    """Entries and health. The constructor returns at once; a daemon thread does the pinging."""

    def __init__(self, uri: str, name: str, grace: float, credentials: str = "") -> None:
        self.pid = os.getpid()
        self.grace = grace
        self._uri = uri
        self._name = name
        self._credentials = credentials
        self._logins = self._read_logins()
        self._use(self._connect(self._logins[0] if self._logins else None))
        self._started = time.monotonic()
        self._reached = threading.Event()
        self._answering = False
        self._refused = False
        self._last_answer = 0.0
        self._index_builder: threading.Thread | None = None
        threading.Thread(target=self._watch, name="database-watch", daemon=True).start()

    # The client, and its replacement when the password changes.

    def _read_logins(self) -> list[Login]:
        try:
            return read_logins(self._credentials)
        except OSError as error:  # it may come later
            log.warning("user and password cannot be read: %s", error)
            return []

    def _connect(self, login: Login | None) -> Any:
        who = {"username": login[0], "password": login[1]} if login else {}
        return pymongo.MongoClient(self._uri, connect=False, appname="gen-topology-app", **who)

    def _use(self, client: Any) -> None:
        self.client: Any = client
        self.entries: Any = client[self._name].get_collection(
            "entries", codec_options=CodecOptions(tz_aware=True)
        )
        # What a majority has acknowledged, as the primary knows it.
        self.committed: Any = self.entries.with_options(
            read_preference=Primary(), read_concern=ReadConcern("majority")
        )

    def _renew(self) -> None:
        """Change to the newest login of the file that the database accepts, if there is another."""
        logins = self._read_logins()
        if logins == self._logins and not (self._refused and len(logins) > 1):
            return
        for login in logins:
            client = self._connect(login)
            try:
                with pymongo.timeout(PING_LIMIT):
                    client.admin.command("ping", read_preference=Nearest())
            except PyMongoError:
                client.close()
                continue
            old = self.client
            self._use(client)
            self._logins = logins
            # Requests that have begun go on with the old one.
            retire = threading.Timer(RETIREMENT, old.close)
            retire.daemon = True
            retire.start()
            return

    # Health: cached, so asking costs nothing and never waits for the network.

    def _watch(self) -> None:
        while True:
            self._renew()
            self._ping()
            time.sleep(PING_INTERVAL if self._answering else PAUSE)

    def _ping(self) -> None:
        if self._credentials and not self._logins:
            self._answering = False  # mongod answers a ping from anybody
            return
        try:
            with pymongo.timeout(PING_LIMIT):
                self.client.admin.command("ping", read_preference=Nearest())
        except Exception as error:  # whatever it is, this thread has to go on
            if self._answering:
                log.warning("no answer from the database: %s", error)
            self._answering = False
            self._refused = getattr(error, "code", None) == AUTHENTICATION_FAILED
            return
        self._refused = False
        self._last_answer = time.monotonic()
        self._answering = True
        self._reached.set()
        if self._index_builder is None and self.has_writable_member():
            # Its own thread: an index build may wait for members, a ping may not.
            self._index_builder = threading.Thread(target=self._create_indexes, daemon=True)
            self._index_builder.start()

    def _create_indexes(self) -> None:
        try:
            persist(lambda: self.entries.create_index([("created", pymongo.DESCENDING)]))
            persist(lambda: self.entries.create_index([("text", pymongo.ASCENDING)]))
        except PyMongoError as error:  # only speed depends on the indexes
            log.warning("could not make sure of the indexes: %s", error)

    def has_writable_member(self) -> bool:
        return bool(self.client.topology_description.has_writable_server())

    def state(self) -> str:
        """One of primary, secondary-only, unreachable-grace, unreachable, starting."""
        if not self._reached.is_set():
            # Only the first callers of a new process wait, and only for its first ping.
            wait = self._started + FIRST_PING_WAIT - time.monotonic()
            if not self._reached.wait(max(0.0, wait)):
                return "starting"
        if self._answering:
            return "primary" if self.has_writable_member() else "secondary-only"
        within = time.monotonic() - self._last_answer <= self.grace
        return "unreachable-grace" if within else "unreachable"

    def members(self) -> list[dict[str, str]]:
        """The members and their states, as the client already knows them (no command is sent)."""
        servers = self.client.topology_description.server_descriptions()
        return [
            {"address": f"{host}:{port}", "state": STATES.get(server.server_type_name, "unreachable")}
            for (host, port), server in sorted(servers.items(), key=lambda item: str(item[0]))
        ]

    # Entries.

    def newest(self, limit: int) -> list[Entry]:
        """The newest entries, from any member that can be read soon, perhaps a little stale."""
        read_limit = READ_LIMIT if self._answering else READ_LIMIT_DOWN
        for collection in (
            self.entries,
            self.entries.with_options(read_preference=SecondaryPreferred()),
        ):
            try:
                with pymongo.timeout(read_limit):
                    return self._newest_of(collection, limit)
            except PyMongoError as error:
                failure = error
        raise failure

    def newest_committed(self, limit: int) -> list[Entry]:
        return persist(lambda: self._newest_of(self.committed, limit))

    @staticmethod
    def _newest_of(collection: Any, limit: int) -> list[Entry]:
        return list(collection.find().sort("created", pymongo.DESCENDING).limit(limit))

    def find(self, entry_id: str) -> Entry | None:
        entry: Entry | None = persist(lambda: self.committed.find_one({"_id": entry_id}))
        return entry

    def count(self, prefix: str) -> int:
        query = {"text": {"$regex": "^" + re.escape(prefix)}} if prefix else {}
        return int(persist(lambda: self.committed.count_documents(query)))

    def add(self, entry_id: str, text: str, node: str) -> None:
        """Store one entry, once, however often it takes to send it.

        The id makes repeating safe: if an attempt seemed to fail but did not,
        the next one finds the id taken by the very same text.
        """
        entry = {
            "_id": entry_id,
            "text": text,
            "node": node,
            "created": datetime.now(UTC),
        }
        untouched = True

        def insert() -> None:
            nonlocal untouched
            try:
                self.entries.insert_one(entry)
            except ServerSelectionTimeoutError:
                raise  # this attempt sent nothing: pymongo reports an earlier error first
            except DuplicateKeyError:
                untouched = False
                stored = self.committed.find_one({"_id": entry_id}, {"text": True})
                if stored is None:  # on the primary, but a new primary might not have it
                    raise AutoReconnect("stored, but not yet by a majority") from None
                if stored["text"] != text:
                    raise Conflict(entry_id) from None
            except PyMongoError:
                untouched = False
                raise

        try:
            persist(insert)
        except PyMongoError as error:
            log.error("entry %s: %s", entry_id, error)
            raise NotStored(untouched) from error


_lock = threading.Lock()
_current: Database | None = None


def get_database(uri: str, name: str, grace: float, credentials: str = "") -> Database:
    """The database of this process, made when first asked for."""
    global _current
    if _current is None or _current.pid != os.getpid():
        with _lock:
            if _current is None or _current.pid != os.getpid():
                _current = Database(uri, name, grace, credentials)
    return _current
