"""A Redis client in a page: enough for populate.py and fingerprint.py, and quick to import."""

import socket


class Redis:
    """One connection. Commands are sent in batches and answered in order."""

    def __init__(self, port, password, host="127.0.0.1"):
        self._socket = socket.create_connection((host, port), timeout=30)
        self._input = self._socket.makefile("rb")
        self("AUTH", password)

    def __call__(self, *command):
        return self.batch([command])[0]

    def batch(self, commands, size=5000):
        answers = []
        for start in range(0, len(commands), size):
            part = commands[start : start + size]
            self._socket.sendall(b"".join(map(_encode, part)))
            answers += [self._read() for _ in part]
        return answers

    def close(self):
        self._input.close()
        self._socket.close()

    def _read(self):
        line = self._input.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise RuntimeError(f"Redis: {rest.decode()}")
        if kind == b":":
            return int(rest)
        count = int(rest)
        if count < 0:
            return None
        if kind == b"$":
            return self._input.read(count + 2)[:-2]
        return [self._read() for _ in range(count)]


def _encode(command):
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        word = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)
