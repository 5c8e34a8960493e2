#!/usr/bin/env bash
# Serves php_app.php on PORT with PHP's own server and eight processes, which end with this one however it ends.
set -euo pipefail
set -m
readonly workers=8
store="${REDIS_URL#redis://}"
PHP_CLI_SERVER_WORKERS=$workers php -n -d extension=igbinary -d extension=redis -S "127.0.0.1:$PORT" \
    -d session.save_handler=redis -d "session.save_path=tcp://${store%%/*}" -d session.serialize_handler="${HANDLER:-php}" \
    -d session.name=sid -d session.use_strict_mode=1 -d session.gc_maxlifetime=3600 -d session.cache_limiter= \
    -d display_errors=0 -d log_errors=0 -d post_max_size=16M \
    "$(dirname "${BASH_SOURCE[0]}")/php_app.php" >/dev/null 2>&1 &
server=$!
(
    while kill -0 $$ 2>/dev/null; do sleep 0.5; done
    kill -KILL -- "-$server" 2>/dev/null
) &
watcher=$!
trap 'kill -TERM -- "-$server" "-$watcher" 2>/dev/null; exit 0' TERM INT
wait "$server"
