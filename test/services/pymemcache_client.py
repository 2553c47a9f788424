"""Drives a memcached server on 127.0.0.1 with pymemcache and prints a JSON object: the name of each step, and "ok" or
what went wrong. The port is the only argument."""

import json
import sys
import threading
import traceback

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheIllegalInputError, MemcacheServerError

ADDRESS = ("127.0.0.1", int(sys.argv[1]))
STEPS = {}


def step(name):
    """Registers a step; it gets a client of its own and fails by an assertion or any other exception."""

    def register(body):
        STEPS[name] = body
        return body

    return register


def client(**options):
    return Client(ADDRESS, default_noreply=False, connect_timeout=5, timeout=20, **options)


def expect(got, wanted):
    assert got == wanted, f"expected {wanted!r}, got {got!r}"


@step("set and get")
def _(c):
    expect(c.get("absent"), None)
    expect(c.get("absent", default=b"x"), b"x")
    expect(c.set("key", "value"), True)
    expect(c.get("key"), b"value")
    expect(c.set("flagged", b"v", flags=0xFFFF), True)
    expect(c.get("flagged"), b"v")
    expect(c.set("quiet", b"v", noreply=True), True)
    expect(c.get("quiet"), b"v")


@step("values of any bytes, up to the item size limit")
def _(c):
    for value in (b"", b"\r\n", b"END\r\n", bytes(range(256)), b"\0" * 70000, b"v" * (1024 * 1024 - 300)):
        expect(c.set("bytes", value), True)
        expect(c.get("bytes"), value)
    long_key = "k" * 250
    expect(c.set(long_key, b"long"), True)
    expect(c.get(long_key), b"long")


@step("add, replace, append, prepend")
def _(c):
    expect(c.replace("verbs", b"no"), False)
    expect(c.append("verbs", b"no"), False)
    expect(c.prepend("verbs", b"no"), False)
    expect(c.add("verbs", b"b"), True)
    expect(c.add("verbs", b"no"), False)
    expect(c.append("verbs", b"c"), True)
    expect(c.prepend("verbs", b"a"), True)
    expect(c.get("verbs"), b"abc")
    expect(c.replace("verbs", b"new"), True)
    expect(c.get("verbs"), b"new")


@step("cas")
def _(c):
    expect(c.cas("cas", b"v", b"1"), None)
    c.set("cas", b"1")
    value, token = c.gets("cas")
    expect(value, b"1")
    expect(c.cas("cas", b"2", token), True)
    expect(c.cas("cas", b"3", token), False)
    expect(c.get("cas"), b"2")
    c.set("cas2", b"x")
    many = c.gets_many(["cas", "cas2", "absent"])
    expect(sorted(many), ["cas", "cas2"])
    expect(c.cas("cas2", b"y", many["cas2"][1]), True)


@step("incr and decr")
def _(c):
    expect(c.incr("number", 1), None)
    c.set("number", b"10")
    expect(c.incr("number", 5), 15)
    expect(c.decr("number", 20), 0)
    c.set("number", b"18446744073709551615")
    expect(c.incr("number", 2), 1)


@step("many keys at once")
def _(c):
    values = {f"many:{i}": f"value {i}".encode() for i in range(500)}
    expect(c.set_many(values), [])
    expect(c.get_many(list(values) + ["absent"]), values)
    expect(c.delete_many(list(values)), True)
    expect(c.get_many(list(values)), {})


@step("expiry and touch")
def _(c):
    c.set("expired", b"v", expire=-1)
    expect(c.get("expired"), None)
    c.set("lasting", b"v", expire=1000)
    expect(c.touch("lasting", 2000), True)
    expect(c.touch("absent", 2000), False)
    expect(c.get("lasting"), b"v")
    expect(c.touch("lasting", -1), True)
    expect(c.get("lasting"), None)


@step("delete and flush_all")
def _(c):
    c.set("gone", b"v")
    expect(c.delete("gone"), True)
    expect(c.delete("gone"), False)
    c.set("flushed", b"v")
    expect(c.flush_all(), True)
    expect(c.get("flushed"), None)


@step("errors")
def _(c):
    c.set("text", b"abc")
    try:
        c.incr("text", 1)
        raise AssertionError("incr of text was accepted")
    except MemcacheClientError:
        pass
    try:
        c.set("large", b"v" * (2 * 1024 * 1024))
        raise AssertionError("a value of two megabytes was accepted")
    except MemcacheServerError:
        pass
    try:
        c.get("k" * 251)
        raise AssertionError("a key of 251 bytes was accepted")
    except MemcacheIllegalInputError:
        pass
    expect(c.get("text"), b"abc")


@step("a pool of connections in threads")
def _(_):
    pool = PooledClient(ADDRESS, max_pool_size=4, default_noreply=False, connect_timeout=5, timeout=20)
    pool.set("count", b"0")
    failures = []

    def work(n):
        try:
            for i in range(200):
                pool.incr("count", 1)
                pool.set(f"thread:{n}", str(i).encode())
        except Exception:  # reported below: a thread's own traceback would be lost
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(failures, [])
    expect(pool.get("count"), b"800")
    pool.close()


@step("stats and version")
def _(c):
    assert c.version().startswith(b"1.6."), c.version()
    stats = c.stats()
    for name in (b"pid", b"cmd_get", b"cmd_set", b"curr_items", b"limit_maxbytes", b"bytes", b"evictions"):
        assert name in stats, f"{name!r} is missing in {sorted(stats)!r}"
    expect(stats[b"limit_maxbytes"], 64 * 1024 * 1024)


def main():
    results = {}
    for name, body in STEPS.items():
        connection = client()
        try:
            body(connection)
            results[name] = "ok"
        except Exception:
            results[name] = traceback.format_exc()
        finally:
            connection.close()
    print(json.dumps(results))


main()
