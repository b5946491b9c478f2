"""`http_service.py` with FastAPI: `RESTORE_CONFIG=restore.toml fastapi run fastapi_service.py`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Optional

import restore
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

last: Optional[restore.Run[restore.Report]] = None  # A run that nobody holds any more undoes itself.
beginning = asyncio.Lock()


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    with contextlib.suppress(restore.RestoreError):  # It says that it was stopped and undone.
        if last is not None:
            last.cancel()
            await last.wait_async()


app = FastAPI(lifespan=lifespan)


@app.exception_handler(restore.RestoreError)
async def refused(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error), "hint": getattr(error, "hint", None)}, 409)


@app.post("/restore", status_code=202)
async def begin() -> None:
    global last
    async with beginning:
        if last is not None and last.state in ("under_way", "stopping"):
            raise HTTPException(409, "a run is under way")
        plan = await restore.Site.open().plan_async("latest")
        if plan.refusal is not None:
            raise plan.refusal
        last = plan.start()


@app.get("/restore")
async def follow() -> StreamingResponse:
    async def lines(run: restore.Run[restore.Report]) -> AsyncIterator[str]:
        with contextlib.suppress(restore.RestoreError):  # Its last event says how it ended.
            async for event in run.events():
                yield json.dumps(event.to_dict()) + "\n"

    if last is None:
        raise HTTPException(404, "there was no run yet")
    return StreamingResponse(lines(last), media_type="application/x-ndjson")


@app.delete("/restore", status_code=202)
async def stop() -> None:
    if last is not None:
        last.cancel()
