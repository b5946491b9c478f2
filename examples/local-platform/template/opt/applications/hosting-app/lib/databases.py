"""Both databases, with one connection each that is made anew after it broke."""

import threading

import psycopg2
import redis


class Unavailable(Exception):
    """A database does not answer, or not as it should."""


class Databases:
    def __init__(self, settings):
        self._settings = settings
        self._lock = threading.Lock()
        self._postgres = None
        self._redis = redis.Redis(
            host=settings["REDIS_HOST"],
            port=int(settings["REDIS_PORT"]),
            password=settings["redis"],
            socket_timeout=2,
            socket_connect_timeout=2,
        )

    def health(self):
        with self._lock:
            users, orders = self._query("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM orders)")
            site = self._ask(lambda client: client.get("site:name"))
        if not users:
            raise Unavailable("PostgreSQL: there are no users")
        if site is None:
            raise Unavailable("Redis: the key site:name is missing")
        return {"postgres": "ok", "redis": "ok", "users": users, "orders": orders}

    def stats(self):
        with self._lock:
            (revenue,) = self._query("SELECT sum(amount)::text FROM orders")
            waiting = self._ask(lambda client: client.llen("queue:mail"))
            keys = self._ask(lambda client: client.dbsize())
        return {"revenue": revenue, "mails_waiting": waiting, "keys": keys}

    def _query(self, text):
        # A connection that the server closed shows only when it is used: then once more.
        for last in (False, True):
            try:
                if self._postgres is None:
                    self._postgres = self._connect()
                with self._postgres.cursor() as cursor:
                    cursor.execute(text)
                    return cursor.fetchone()
            except psycopg2.Error as problem:
                fresh = self._postgres is None
                self._drop()
                if last or fresh or not isinstance(problem, (psycopg2.OperationalError, psycopg2.InterfaceError)):
                    raise Unavailable(f"PostgreSQL: {str(problem).strip().splitlines()[0]}") from problem

    def _connect(self):
        connection = psycopg2.connect(
            host=self._settings["PG_HOST"],
            port=self._settings["PG_PORT"],
            user=self._settings["PG_USER"],
            password=self._settings["postgres"],
            dbname=self._settings["PG_DATABASE"],
            connect_timeout=2,
        )
        connection.autocommit = True
        return connection

    def _drop(self):
        if self._postgres is not None:
            self._postgres.close()
            self._postgres = None

    def _ask(self, question):
        try:
            return question(self._redis)
        except redis.RedisError as problem:
            raise Unavailable(f"Redis: {problem}") from problem
