// What the services on Node share: where their packages are, what a request may ask for, how an answer shows a session.
// It knows no library. Routes: README.md beside this file.
"use strict";

const path = require("node:path");
const { createRequire } = require("node:module");

// The packages are installed under target/, not beside this file: NODE_APP_DIR names the folder that holds node_modules.
const from = createRequire(path.join(process.env.NODE_APP_DIR || __dirname, "package.json"));

const HOLD_MS_MAX = 5_000;
const BODY_BYTES_MAX = 16 * 1024 * 1024;
const COOKIE_AGE_MS = 3_600_000;

/** Keeps the request in flight for `hold_ms`, between the read of the session and its write. */
function hold(query) {
  const asked_ms = Number.parseInt(query.hold_ms ?? "0", 10) || 0;
  return new Promise((done) => setTimeout(done, Math.min(Math.max(asked_ms, 0), HOLD_MS_MAX)));
}

/** A value of the session so that JSON carries it byte for byte. */
function shown(value) {
  if (typeof value === "number") return { number: value };
  // A Buffer comes back from the JSON of the session as this plain object.
  if (value?.type === "Buffer") return { base64: Buffer.from(value.data).toString("base64") };
  return { text: value };
}

/** All of these variables. */
function allShown(variables) {
  return Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, shown(value)]));
}

/** What every answer has. */
function facts(session, more = {}) {
  return { instance: process.env.INSTANCE || "", user: session?.user ?? null, ...more };
}

/** A client of node-redis, connected. */
async function nodeRedis(url) {
  const client = from("redis").createClient({ url });
  client.on("error", (error) => console.error("redis:", error.message));
  await client.connect();
  return client;
}

/** Ends with the process's signals; an error before that ends it too. */
function run(main) {
  main().catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
}

function endWith(close) {
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => close(() => process.exit(0)));
}

module.exports = { from, hold, shown, allShown, facts, nodeRedis, run, endWith, BODY_BYTES_MAX, COOKIE_AGE_MS };
