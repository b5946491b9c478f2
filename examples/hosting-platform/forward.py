#!/usr/bin/python3
"""Ports of another network's 127.0.0.1, reachable on this one's.

    forward.py NETWORK PORT…      NETWORK: a file such as /proc/PID/ns/net

Goes into the background once all ports are its own; fails where somebody else has one. A port takes
connections here only while something listens on it there, so that whoever waits for a server to come
or to go sees what it would see without a forwarder in between.
"""

import asyncio
import ctypes
import os
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
HOST = "127.0.0.1"
LISTEN = "0A"
# How long what is seen of the other network may be out of date, in seconds.
INTERVAL = 0.05
CHUNK = 1 << 16

libc = ctypes.CDLL(None, use_errno=True)


def main(arguments):
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    # A lock of the caller's, for instance, is not kept.
    os.closerange(3, 1024)
    there = os.open(arguments[0], os.O_RDONLY)
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        ports = [Port(int(number), here, there) for number in arguments[1:]]
    except OSError as error:
        print(f"forward: {error}", file=sys.stderr)
        return 1
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.dup2(1, 2)
    enter(there)
    asyncio.run(watch(ports))


def enter(network):
    if libc.setns(network, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


async def watch(ports):
    while True:
        try:
            there = listening()
            for port in ports:
                await port.follow(port.number in there)
        except (OSError, ValueError) as error:
            print(f"forward: {error}", flush=True)
        await asyncio.sleep(INTERVAL)


def listening():
    """Ports that something listens on in the network where this process is."""
    found = set()
    with open("/proc/net/tcp", encoding="ascii") as table:
        next(table)
        for line in table:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == LISTEN and address in ("0100007F", "00000000"):
                found.add(int(port, 16))
    return found


class Port:
    """One port: bound all the time, and listening while there is somebody to connect to."""

    def __init__(self, number, here, there):
        self.number = number
        self.here = here
        self.there = there
        self.server = None
        self.socket = self.bind()

    def bind(self):
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, self.number))
        except OSError as error:
            one.close()
            raise OSError(error.errno, f"port {self.number} of {HOST}: {error.strerror}") from error
        return one

    async def follow(self, somebody_listens):
        if somebody_listens and self.server is None:
            # Taken by somebody else, perhaps, in the moment between two of these.
            if self.socket is None and not self.bind_again():
                return
            try:
                self.server = await asyncio.start_server(self.serve, sock=self.socket, backlog=128)
            except OSError:
                self.socket.close()
                self.socket = None
                raise
        elif not somebody_listens and self.server is not None:
            self.server.close()
            self.server = self.socket = None
            self.bind_again()

    def bind_again(self):
        # A socket belongs to the network where it was made.
        enter(self.here)
        try:
            self.socket = self.bind()
        except OSError as error:
            print(f"forward: {error}", flush=True)
            self.socket = None
        finally:
            enter(self.there)
        return self.socket is not None

    async def serve(self, reader, writer):
        try:
            there_reader, there_writer = await asyncio.open_connection(HOST, self.number)
        except OSError:
            reset(writer)
            return
        try:
            await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
        except OSError:
            reset(writer)
            reset(there_writer)
        else:
            writer.close()
            there_writer.close()


async def pump(reader, writer):
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    # Half of the connection: what comes the other way is not over yet.
    writer.write_eof()


def reset(writer):
    one = writer.get_extra_info("socket")
    if one is not None and one.fileno() != -1:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
