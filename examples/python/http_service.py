"""A service that restores on request: any ASGI server runs it (`uvicorn http_service:app`).

`POST /restore` begins a run and gives its id, `GET /restore` streams its events, a JSON line each, from
the first on and for as many as ask, `DELETE /restore` stops it: it undoes itself. `RESTORE_CONFIG` names
the restore.toml. A client that goes away stops nothing; a service that ends does: its runs undo themselves.

`fastapi_service.py` is the same with FastAPI.

The smallest of it:

    run = site.plan("latest").start()
    for event in run.events():
        print(json.dumps(event.to_dict()))
    run.wait()
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Optional

import restore

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Service:
    def __init__(self) -> None:
        self.run: Optional[restore.Run[restore.Report]] = None
        self.beginning = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.lifespan(receive, send)
        answers = {"POST": self.begin, "GET": self.follow, "DELETE": self.stop}
        answer = answers.get(scope["method"])
        if scope["path"] != "/restore" or answer is None:
            return await self.say(send, 404, {"error": "POST, GET or DELETE /restore"})
        try:
            await answer(send)
        except restore.RestoreError as error:
            await self.say(send, 409, error.to_dict())

    async def begin(self, send: Send) -> None:
        # To plan takes a while, in which another may ask. A run that nobody holds any more undoes itself.
        async with self.beginning:
            if self.run is not None and self.run.state in ("under_way", "stopping"):
                under_way = {"error": "a run is under way", "run": self.run.id}
                return await self.say(send, 409, under_way)
            plan = await restore.Site.open().plan_async("latest")
            if plan.refusal is not None:
                raise plan.refusal
            run = self.run = plan.start()
        async for _ in run.events():
            break  # From its first event on it has an id.
        await self.say(send, 202, {"run": run.id})

    async def follow(self, send: Send) -> None:
        if self.run is None:
            return await self.say(send, 404, {"error": "there was no run yet"})
        head = {"type": "http.response.start", "status": 200}
        await send({**head, "headers": [(b"content-type", b"application/x-ndjson")]})
        try:
            async for event in self.run.events():
                await self.write(send, event.to_dict(), True)
        except restore.RestoreError as error:
            await self.write(send, {"event": "failed", **error.to_dict()}, True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def stop(self, send: Send) -> None:
        if self.run is not None:
            self.run.cancel()
        await self.say(send, 202, {"state": None if self.run is None else self.run.state})

    async def lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self.run is not None:
                self.run.cancel()
                try:
                    await self.run.wait_async()
                except restore.RestoreError:
                    pass  # It says that it was stopped, which is what was asked for.
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def say(self, send: Send, status: int, value: dict[str, Any]) -> None:
        head = {"type": "http.response.start", "status": status}
        await send({**head, "headers": [(b"content-type", b"application/json")]})
        await self.write(send, value, False)

    async def write(self, send: Send, value: dict[str, Any], more: bool) -> None:
        body = json.dumps(value).encode() + b"\n"
        await send({"type": "http.response.body", "body": body, "more_body": more})


app = Service()
