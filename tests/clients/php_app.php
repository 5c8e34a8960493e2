<?php
// An ordinary PHP service with sessions in Redis: the session handler of phpredis, nothing of Wayfarer in it.
//
// It never works around its library: the session is read whole by session_start() and written whole at the end of the request,
// and only if it has changed; else its expiry is set anew. php_serve.sh starts it. Routes: README.md beside this file.

const HOLD_MS_MAX = 5000;

/** Keeps the request in flight for `hold_ms`, between the read of the session and its write. */
function hold(): void
{
    usleep(1000 * min(max((int) ($_GET["hold_ms"] ?? 0), 0), HOLD_MS_MAX));
}

/** A value of the session so that JSON carries it byte for byte. */
function shown(mixed $value): array
{
    if (is_array($value)) {
        return ["base64" => base64_encode($value["bytes"])];
    }
    return is_int($value) ? ["number" => $value] : ["text" => $value];
}

function answer(array $more = [], int $status = 200): void
{
    http_response_code($status);
    header("Content-Type: application/json");
    // The session is written before the answer goes out: whoever has the answer finds what was written.
    $user = $_SESSION["user"] ?? null;
    if (session_status() === PHP_SESSION_ACTIVE) {
        // Who has not logged in leaves nothing in the store.
        $_SESSION === [] ? session_abort() : session_write_close();
    }
    echo json_encode(["instance" => getenv("INSTANCE") ?: "", "user" => $user] + $more, JSON_THROW_ON_ERROR);
}

$route = $_SERVER["REQUEST_METHOD"] . " " . parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH);
if ($route === "GET /healthz") {
    answer();
    return;
}
session_start();
$needs_login = in_array($route, ["GET /read", "POST /write", "POST /incr"], true);
if ($needs_login && !isset($_SESSION["user"])) {
    answer(["error" => "not logged in"], 401);
    return;
}
switch ($route) {
    case "POST /login":
        // A new id at login, as every guide to session fixation asks for: the old key is deleted, a new one written.
        session_regenerate_id(true);
        $_SESSION["user"] = $_GET["user"];
        hold();
        answer();
        break;
    case "GET /read":
        hold();
        answer(["variables" => array_map(shown(...), $_SESSION)]);
        break;
    case "POST /write":
        // A body is a binary value, byte for byte; the parameter `value` is text.
        $body = file_get_contents("php://input");
        $_SESSION[$_GET["name"]] = $body !== "" ? ["bytes" => $body] : $_GET["value"];
        hold();
        answer();
        break;
    case "POST /incr":
        $_SESSION[$_GET["name"]] = ($_SESSION[$_GET["name"]] ?? 0) + 1;
        hold();
        answer(["number" => $_SESSION[$_GET["name"]]]);
        break;
    case "POST /logout":
        hold();
        $_SESSION = [];
        session_destroy();
        answer();
        break;
    case "GET /whoami":
        answer();
        break;
    default:
        answer(["error" => "no such route"], 404);
}
