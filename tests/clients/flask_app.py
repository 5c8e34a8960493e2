"""An ordinary Flask service with sessions in Redis: Flask-Session over redis-py, nothing of Wayfarer in it.

It never works around its libraries: whole session read at the start of a request, whole session written at its end.
The client tests start it with PORT and REDIS_URL, as `wayfarer run -- COMMAND` does. Routes: README.md beside this file.
"""

import base64
import os
import threading
import time

import redis
from flask import Flask, current_app, jsonify, request, session
from flask_session import Session
from waitress import serve

HOLD_MS_MAX = 5_000
BODY_BYTES_MAX = 16 * 1024 * 1024
THREADS = 16
CONNECTIONS_MAX = 1_000
# Flask-Session keeps its own flags beside the variables of the service; they are not what a test reads back.
LIBRARY_FLAGS = ("_permanent",)

app = Flask(__name__)
app.config.update(
    SESSION_TYPE="redis",
    SESSION_REDIS=redis.Redis.from_url(os.environ["REDIS_URL"], protocol=int(os.environ.get("RESP", "3"))),
    SESSION_SERIALIZATION_FORMAT=os.environ.get("FORMAT", "msgpack"),
    SESSION_KEY_PREFIX="session:",
    SESSION_COOKIE_NAME="sid",
    # Without a signature the cookie's value is the session id itself (codec `plain`).
    SESSION_USE_SIGNER=False,
    SESSION_PERMANENT=True,
    PERMANENT_SESSION_LIFETIME=3_600,
    # The library's default is 1: every request writes the session. With 0 a request that only reads sends only a GET.
    SESSION_REFRESH_EACH_REQUEST=os.environ.get("REFRESH", "1") == "1",
    MAX_CONTENT_LENGTH=BODY_BYTES_MAX,
)
Session(app)


def hold():
    """Keeps the request in flight for `hold_ms`, between the read of the session and its write."""
    time.sleep(min(max(request.args.get("hold_ms", 0, type=int), 0), HOLD_MS_MAX) / 1_000)


def shown(value):
    """A value of the session so that JSON carries it byte for byte."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return {"number": value} if isinstance(value, int) else {"text": value}


def answer(**more):
    return jsonify(instance=os.environ.get("INSTANCE", ""), user=session.get("user"), **more)


def logged_in():
    return "user" in session


@app.post("/login")
def login():
    # A new id at login, as every guide to session fixation asks for: the old key is deleted, a new one written.
    if session:
        current_app.session_interface.regenerate(session)
    session["user"] = request.args["user"]
    hold()
    return answer()


@app.get("/read")
def read():
    hold()
    if not logged_in():
        return answer(error="not logged in"), 401
    return answer(variables={name: shown(value) for name, value in session.items() if name not in LIBRARY_FLAGS})


@app.post("/write")
def write():
    if not logged_in():
        return answer(error="not logged in"), 401
    # A body is a binary value, byte for byte; the parameter `value` is text.
    body = request.get_data()
    session[request.args["name"]] = body if body else request.args["value"]
    hold()
    return answer()


@app.post("/incr")
def incr():
    if not logged_in():
        return answer(error="not logged in"), 401
    name = request.args["name"]
    session[name] = session.get(name, 0) + 1
    hold()
    return answer(number=session[name])


@app.post("/logout")
def logout():
    session.clear()
    hold()
    return answer()


@app.get("/whoami")
def whoami():
    return answer()


@app.get("/healthz")
def healthz():
    return jsonify(instance=os.environ.get("INSTANCE", ""), threads=threading.active_count())


if __name__ == "__main__":
    serve(app, host="127.0.0.1", port=int(os.environ["PORT"]), threads=THREADS, connection_limit=CONNECTIONS_MAX, ident=None)
