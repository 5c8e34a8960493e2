#!/usr/bin/env bash
# Writes the seeds of the fuzz targets into fuzz/seeds, from what the libraries of the client tests and PHP write.
# Needs `scripts/clients.sh` (Python with msgspec) and php-cli. The seeds are kept in the repository: run it only to change them.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${CARGO_TARGET_DIR:-$root/target}/clients/venv/bin/python"
mkdir -p "$root"/fuzz/seeds/{resp_request,control_frame,layout_split,settings_text,json}
cd "$root/fuzz/seeds"

# PHP: the three session handlers, objects, references, and Laravel's string in a string.
php -d session.save_path=/tmp -d session.use_cookies=0 -d session.cache_limiter= -r '
class Cart { public $items = [1, 2.5, null, true]; protected $n = "x|y;}"; private $p = INF; }
class Old implements Serializable {
    public function serialize() { return "i:1;}"; }
    public function unserialize($s) {}
    public function __serialize(): array { return ["a" => 1]; }
    public function __unserialize(array $d): void {}
}
enum Suit: string { case Hearts = "h"; }
$cart = new Cart;
$all = ["user" => "zoë", "n" => -5, "f" => 1e25, "cart" => $cart, "list" => ["a" => [], 7 => "|;}\""], "suit" => Suit::Hearts,
        "bytes" => "\xff\x00\xc1", "none" => null, "flag" => false];
$shared = ["a" => $cart, "b" => $cart];
$out = [];
foreach (["php", "php_binary", "php_serialize"] as $handler) {
    ini_set("session.serialize_handler", $handler);
    session_start();
    foreach (["plain" => $all, "shared" => $shared] as $name => $values) {
        $_SESSION = $values;
        $out["{$handler}_$name"] = session_encode();
    }
    session_abort();
}
$out["laravel"] = serialize(serialize(["_token" => "q8", "_flash" => ["old" => [], "new" => []], "login_web_59ba" => 1]));
$change = $all; $change["n"] = 6; $more = $all; $more["more"] = [1]; unset($more["list"]);
ini_set("session.serialize_handler", "php");
session_start();
$three = [];
foreach ([$all, $change, $more] as $values) { $_SESSION = $values; $three[] = session_encode(); }
session_abort();
$out["three"] = implode("\0/\0", $three);
foreach ($out as $name => $value) { file_put_contents("layout_split/php_$name", "\x02" . $value); }
file_put_contents("layout_split/php_laravel_three", "\x02" . implode("\0/\0", array_map(fn($v) => serialize(serialize($v)),
    [["a" => 1], ["a" => 1, "b" => "x"], ["a" => 2, "c" => []]])));
' 2>/dev/null

"$python" - <<'PYTHON'
import json
import msgspec

CUT = b"\0/\0"
session = {"_permanent": True, "user": "zoë", "hits": 7, "cart": [{"sku": 1, "qty": 2.5}], "raw": b"\xff\x00", "none": None}
changed = {**session, "hits": 8}
more = {**session, "more": {"a": []}}
del more["cart"]
large = {f"key{n}": n for n in range(40)}


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)


encode = msgspec.msgpack.encode
for name, value in {
    "flask_session": session,
    "keys": {1: "a", -1: "b", 300: "c", "t" * 40: b"d", 1.5: None},
    "map16": large,
    "tower_sessions": [b"0123456789abcdef", {"cart": {"n": 1}, "user": "u"}, [2026, 325, 1, 2, 3, 4, 0, 0, 0]],
    "no_map": [1, 2, 3],
}.items():
    put(f"layout_split/msgpack_{name}", b"\x01" + encode(value))
put("layout_split/msgpack_three", b"\x01" + CUT.join(encode(v) for v in (session, changed, more)))
put("layout_split/msgpack_record_three", b"\x01" + CUT.join(
    encode([b"id", v, [2026, n]]) for n, v in enumerate(({"a": 1}, {"a": 1, "b": 2}, {"a": 3}))))

text = {k: v for k, v in session.items() if k != "raw"}
for name, value in {
    "express": json.dumps({"cookie": {"originalMaxAge": None, "path": "/"}, "passport": {"user": "1"}}, separators=(",", ":")),
    "python": json.dumps(text),
    "utf8": json.dumps(text, ensure_ascii=False, indent=2),
    "actix": json.dumps({"id": json.dumps("42"), "cart": json.dumps([1, 2])}),
    "duplicates": '{"a":1,"a":2}',
    "escapes": r'{"a\"}":"\\","\u0061":1,"":{"":[]}}',
    "nested": '{"a":' + "[" * 60 + "]" * 60 + "}",
    "list": "[1,2]",
    "truncated": '{"a":{"b":[1,"',
}.items():
    put(f"json/{name}", value.encode())
    put(f"layout_split/json_{name}", b"\x00" + value.encode())
texts = [{"a": 1, "b": [2]}, {"a": 1, "b": [3]}, {"a": 2, "c": {}, "b": [2]}]
put("layout_split/json_three", b"\x00" + CUT.join(json.dumps(v).encode() for v in texts))


def request(*args):
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args)


get, put_ = request(b"GET", b"sess:1"), request(b"SET", b"sess:1", b"\r\n$5\xff", b"EX", b"60")
put("resp_request/pipeline", b"\x03" + get + put_ + get)
put("resp_request/inline", b"\x01" + b'SET "a b" \'c\'\r\nPING\n\r\n' + get)
put("resp_request/empty", b"\x02*0\r\n*-1\r\n" + get)
put("resp_request/too_long", b"\x07*2\r\n$3\r\nGET\r\n$99999\r\n")
put("resp_request/reply_map", b"\x05%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*2\r\n_\r\n#t\r\n")
put("resp_request/reply_push", b"\x05>2\r\n$7\r\nmessage\r\n,1.5\r\n")
put("resp_request/reply_attribute", b"\x05|1\r\n+k\r\n+v\r\n*-1\r\n")

with open("../../crates/engine/src/wire/control/golden.txt", encoding="ascii") as golden:
    frames = [line.split() for line in golden if line.strip()]
for name in ("hello", "accept", "stage", "fetch", "fetched", "operation", "operation_reply"):
    put(f"control_frame/{name}", bytes.fromhex(next(frame for kind, frame in frames if kind == name)))
put("control_frame/all", b"".join(bytes.fromhex(frame) for _, frame in frames))

with open("../../config/full.toml", encoding="utf8") as full:
    put("settings_text/full.toml", full.read().encode())
put("settings_text/small.toml", b"""[app]
name = "shop"
[http]
session = { cookie = "sid", codec = "express" }
[state]
keys = [ { preset = "connect-redis" }, { pattern = "s:{session}:{variable}", layout = "key" } ]
[[policy.variable]]
name = "auth_*"
class = "carried"
impact = "critical"
""")
put("settings_text/wrong.toml", b"""[stat]
x = 1
[state]
listen = 6379
keys = [ { pattern = "sess:", layout = "hush" }, 7, { patern = "{session}" } ]
upstream = "redis://u:p@h:1/99"
[cluster]
groups = 1e9
""")
PYTHON
printf '%s seeds, %s bytes\n' "$(find . -type f | wc -l)" "$(find . -type f -printf '%s\n' | paste -sd+ | bc)"
