"""Places for large values, each with a back door: what is stored there, and changing it as a stranger would."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import pytest
import redis
from fsspec.implementations.local import LocalFileSystem

from celeryflow.config import Settings
from celeryflow.store.large import open_blobs
from celeryflow.store.scripts import Store
from celeryflow.values.blobs.place import Blobs

SECRET = "a-secret-that-nobody-may-read"
KINDS = ("server", "folder", "s3", "mounted")
"""``mounted`` is an fsspec URL of something where a file grows while it is written."""

numbers = itertools.count()


class Mounted(LocalFileSystem):
    """A file system that fsspec knows, and of which celeryflow knows nothing."""

    protocol = "mounted"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("mounted://")))


fsspec.register_implementation("mounted", Mounted)


def open_place(url: str, prefix: str, blobs: str, store: Store | None = None) -> Blobs:
    """What a process has that is told these settings."""
    settings = Settings(url=url, prefix=prefix, blobs=blobs)
    client = redis.Redis(unix_socket_path=url.removeprefix("unix://"))
    return open_blobs(settings, store or Store(client, prefix), 24.0, lambda: None)


class Place:
    """Where a deployment of one test keeps large values."""

    def __init__(self, kind: str, client: redis.Redis, folder: Path, bucket: Any) -> None:
        self.kind, self.client, self.folder, self.bucket = kind, client, folder, bucket
        self.opened: list[Blobs] = []
        self.prefix = f"{kind}{next(numbers)}"
        socket = client.connection_pool.connection_kwargs["path"]
        self.url = f"unix://{socket}"
        self.blobs = {
            "server": "",
            "folder": str(folder),
            "s3": f"s3://{bucket.name}/{self.prefix}" if bucket else "",
            "mounted": f"mounted://{folder}",
        }[kind]

    def open(self) -> Blobs:
        """What a process of the deployment has."""
        self.opened.append(open_place(self.url, self.prefix, self.blobs, Store(self.client, self.prefix)))
        return self.opened[-1]

    def close(self) -> None:
        for blobs in self.opened:
            blobs.close()

    # --- the back door -----------------------------------------------------------------------

    def names(self) -> set[str]:
        """Digests of what is there."""
        if self.kind == "server":
            return {key.decode().rpartition(":")[2] for key in self.client.scan_iter(f"{self.prefix}:blob:*")}
        if self.kind == "s3":
            keys = (entry.key.rpartition("/")[2] for entry in self.bucket.objects.filter(Prefix=f"{self.prefix}/"))
            return {key for key in keys if not key.startswith(".")}
        return {path.name for path in self.folder.glob("??/*") if not path.name.startswith(".")}

    def read(self, digest: str) -> bytes:
        if self.kind == "server":
            found = self.client.hgetall(f"{self.prefix}:blob:{digest}")
            return b"".join(found[b"%d" % number] for number in range(len(found) - 1))
        if self.kind == "s3":
            return bytes(self._object(digest).get()["Body"].read())
        return self._path(digest).read_bytes()

    def write(self, digest: str, content: bytes) -> None:
        """Replace what is stored, or its first 16 MiB."""
        if self.kind == "server":
            self.client.hset(f"{self.prefix}:blob:{digest}", mapping={"size": len(content), "0": content})
        elif self.kind == "s3":
            self._object(digest).put(Body=content)
        else:
            self._path(digest).parent.mkdir(exist_ok=True)
            self._path(digest).write_bytes(content)

    def delete(self, digest: str) -> None:
        if self.kind == "server":
            self.client.delete(f"{self.prefix}:blob:{digest}")
        elif self.kind == "s3":
            self._object(digest).delete()
        else:
            self._path(digest).unlink()

    def leftovers(self) -> set[str]:
        """What a writer has not given its name yet."""
        if self.kind == "server":
            return {key.decode() for key in self.client.scan_iter(f"{self.prefix}:blob-new:*")}
        return {path.name for path in self.folder.glob("??/.new-*")}

    def write_other(self, name: str) -> None:
        """Something that has nothing to do with celeryflow."""
        if self.kind == "s3":
            self.bucket.Object(f"{self.prefix}/{name}").put(Body=b"mine")
        else:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(b"mine")

    def has_other(self, name: str) -> bool:
        if self.kind == "s3":
            return any(entry.key.endswith(name) for entry in self.bucket.objects.filter(Prefix=f"{self.prefix}/"))
        return (self.folder / name).exists()

    def _object(self, digest: str) -> Any:
        return self.bucket.Object(f"{self.prefix}/{digest[:2]}/{digest}")

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest


@contextmanager
def buckets() -> Iterator[Any]:
    """A bucket on an object server of its own, which variables of this process and its children name."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "whoever")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # A client is a second of work to make: within these tests one is enough.
        patch.setattr(fsspec, "url_to_fs", cache(fsspec.url_to_fs))
        try:
            bucket = boto3.resource("s3").Bucket("large")
            bucket.create()
            yield bucket
        finally:
            server.stop()
