"""An ordinary Django service with sessions in its cache in Redis, nothing of Wayfarer in it.

It never works around its libraries: a session is read whole when it is first used and written whole at the end of a request that
has changed it. The client tests start it with PORT, REDIS_URL and CACHE (django | django-redis). Routes: README.md beside this file.
"""

import base64
import os
import time

from django.conf import settings

HOLD_MS_MAX = 5_000
BODY_BYTES_MAX = 16 * 1024 * 1024
THREADS = 16
CONNECTIONS_MAX = 1_000
BACKENDS = {"django": "django.core.cache.backends.redis.RedisCache", "django-redis": "django_redis.cache.RedisCache"}

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={"default": {"BACKEND": BACKENDS[os.environ.get("CACHE", "django")], "LOCATION": os.environ["REDIS_URL"]}},
    DATA_UPLOAD_MAX_MEMORY_SIZE=BODY_BYTES_MAX,
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET", "a secret of the client tests"),
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    SESSION_COOKIE_NAME="sid",
    SESSION_COOKIE_AGE=3_600,
)

import django  # noqa: E402

django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from waitress import serve  # noqa: E402


def hold(request):
    """Keeps the request in flight for `hold_ms`, between the read of the session and its write."""
    asked = request.GET.get("hold_ms", "0")
    time.sleep(min(int(asked) if asked.isdigit() else 0, HOLD_MS_MAX) / 1_000)


def shown(value):
    """A value of the session so that JSON carries it byte for byte."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return {"number": value} if isinstance(value, int) else {"text": value}


def answer(request, status=200, **more):
    user = request.session.get("user")
    return JsonResponse({"instance": os.environ.get("INSTANCE", ""), "user": user, **more}, status=status)


def logged_in(view):
    def guarded(request):
        if "user" not in request.session:
            return answer(request, 401, error="not logged in")
        return view(request)

    return guarded


def login(request):
    # A new id at login, as django.contrib.auth does it: the old key is deleted, a new one written.
    request.session.cycle_key()
    request.session["user"] = request.GET["user"]
    hold(request)
    return answer(request)


@logged_in
def read(request):
    hold(request)
    return answer(request, variables={name: shown(value) for name, value in request.session.items()})


@logged_in
def write(request):
    # A body is a binary value, byte for byte; the parameter `value` is text.
    request.session[request.GET["name"]] = request.body if request.body else request.GET["value"]
    hold(request)
    return answer(request)


@logged_in
def incr(request):
    name = request.GET["name"]
    request.session[name] = request.session.get(name, 0) + 1
    hold(request)
    return answer(request, number=request.session[name])


def logout(request):
    hold(request)
    request.session.flush()
    return answer(request)


def whoami(request):
    return answer(request)


def healthz(_request):
    return JsonResponse({"instance": os.environ.get("INSTANCE", "")})


urlpatterns = [path(view.__name__, view) for view in (login, logout, whoami, healthz)]
urlpatterns += [path("read", read), path("write", write), path("incr", incr)]


if __name__ == "__main__":
    serve(
        get_wsgi_application(), host="127.0.0.1", port=int(os.environ["PORT"]), threads=THREADS, connection_limit=CONNECTIONS_MAX, ident=None
    )
