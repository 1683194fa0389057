"""A small server of a collection over HTTP, of the standard library alone.

    python examples/serving.py FOLDER --dims 384 [--port 8000]
    python examples/serving.py --self-test

    PUT    /documents/KEY  {"vector": [...], "payload": ..., "labels": ["lang:en"]}
    GET    /documents/KEY
    DELETE /documents/KEY
    POST   /search         {"vector": [...], "k": 5, "label": "lang:en", "recall": 0.95}

Searches see the newest commit, and none waits for a put. It is an example: it has neither users nor
TLS, and listens on this machine alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import spinney
import spinney.aio

LARGEST_BODY = 1 << 20


class Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass
class Server:
    documents: spinney.aio.Collection

    async def answer(self, method: str, path: str, body: bytes) -> Any:
        """What a request asks for, as a value for JSON."""
        if path == "/search" and method == "POST":
            return await self.search(fields(body))
        if not path.startswith("/documents/"):
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no {path}")
        key = unquote(path.removeprefix("/documents/"))
        if method == "PUT":
            given = fields(body)
            await self.documents.put(key, given["vector"], json.dumps(given.get("payload")),
                                     given.get("labels", []))
            return {"key": key}
        if method == "DELETE":
            return {"was_there": await self.documents.delete(key)}
        if method != "GET":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not for documents")
        found = await self.documents.get(key)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no document {key!r}")
        return {"key": key, "payload": found.json(), "labels": found.labels}

    async def search(self, given: dict[str, Any]) -> Any:
        hits = await self.documents.search(
            given["vector"], given.get("k", 10), labelled=given.get("label"),
            recall=given.get("recall"), payload=True, timeout=1.0,
        )
        return [{"key": hit.key, "distance": hit.distance, "payload": hit.json()} for hit in hits]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, and its answer."""
        status: HTTPStatus = HTTPStatus.OK
        try:
            method, path, body = await asyncio.wait_for(request(reader), 10)
            value = await self.answer(method, path, body)
        except Refused as refused:
            status, value = refused.status, {"error": str(refused)}
        except (KeyError, TypeError, ValueError, TimeoutError) as error:
            # Errors of spinney about what was given are ValueErrors, too.
            status, value = HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"}
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            writer.close()
            return
        text = json.dumps(value).encode()
        head = (f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n")
        writer.write(head.encode() + text)
        await writer.drain()
        writer.close()


def fields(body: bytes) -> dict[str, Any]:
    value = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is wanted")
    return value


async def request(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    """Method, path and body of a request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = dict(line.lower().split(":", 1) for line in head[1:] if line)
    length = int(headers.get("content-length", "0"))
    if length > LARGEST_BODY:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"bodies have {LARGEST_BODY} bytes")
    return method, path, await reader.readexactly(length)


async def main(folder: str, dims: int, port: int) -> None:
    async with spinney.aio.open(folder) as store:
        documents = await store.collection("documents", dims, "cosine")
        server = await asyncio.start_server(Server(documents).serve, "127.0.0.1", port)
        async with server:
            print(f"listening on port {server.sockets[0].getsockname()[1]}")
            await server.serve_forever()


async def self_test() -> None:
    """Starts, asks itself, and stops."""
    with tempfile.TemporaryDirectory() as folder:
        async with spinney.aio.open(folder) as store:
            documents = await store.collection("documents", 2, "cosine")
            async with await asyncio.start_server(
                    Server(documents).serve, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                await ask_it(port)
    print("all answers were right")


async def ask_it(port: int) -> None:
    async def ask(
        method: str, path: str, value: Any = None, length: int | None = None
    ) -> tuple[int, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"" if value is None else json.dumps(value).encode()
        length = len(body) if length is None else length
        writer.write(f"{method} {path} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
        writer.write(body)
        head, _, text = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), json.loads(text)

    def expect(got: Any, wanted: Any) -> None:
        if got != wanted:
            raise SystemExit(f"expected {wanted}, got {got}")

    puts = [ask("PUT", f"/documents/{key}", {"vector": vector, "payload": {"n": key},
                                             "labels": [f"lang:{language}"]})
            for key, vector, language in (("a", [1, 0], "en"), ("b%20c", [1, 1], "en"),
                                          ("d", [0, 1], "de"))]
    expect([status for status, _ in await asyncio.gather(*puts)], [200, 200, 200])
    status, hits = await ask("POST", "/search", {"vector": [0.1, 1], "k": 2})
    expect((status, [hit["key"] for hit in hits]), (200, ["d", "b c"]))
    status, hits = await ask("POST", "/search", {"vector": [0.1, 1], "label": "lang:en"})
    expect((status, [hit["payload"]["n"] for hit in hits]), (200, ["b%20c", "a"]))
    many = [ask("POST", "/search", {"vector": [1, n], "k": 1}) for n in range(50)]
    expect({status for status, _ in await asyncio.gather(*many)}, {200})
    expect(await ask("GET", "/documents/a"),
           (200, {"key": "a", "payload": {"n": "a"}, "labels": ["lang:en"]}))
    expect(await ask("DELETE", "/documents/a"), (200, {"was_there": True}))
    for wrong, expected in (
        (ask("GET", "/documents/a"), 404),
        (ask("GET", "/nothing"), 404),
        (ask("PATCH", "/documents/a"), 405),
        (ask("PUT", "/documents/e", {"vector": [1, 2, 3]}), 400),
        (ask("PUT", "/documents/e", {"vector": [0, 0]}), 400),
        (ask("POST", "/search", {"k": 3}), 400),
        (ask("POST", "/search", [1, 2]), 400),
        (ask("PUT", "/documents/e", length=LARGEST_BODY + 1), 413),
    ):
        status, said = await wrong
        expect((status, "error" in said), (expected, True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="of the store")
    parser.add_argument("--dims", type=int, default=384, help="of the vectors (384)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--self-test", action="store_true", help="start, ask itself, and stop")
    options = parser.parse_args()
    if options.self_test:
        asyncio.run(self_test())
    elif options.folder is None:
        parser.error("a folder, or --self-test")
    else:
        try:
            asyncio.run(main(options.folder, options.dims, options.port))
        except KeyboardInterrupt:
            pass
