// An ordinary Express service with sessions in Redis: express-session over connect-redis, nothing of Wayfarer in it.
//
// It never works around its libraries: the session is read whole before a request and written whole (or touched) after it.
// The client tests start it with PORT, REDIS_URL and CLIENT (node-redis | ioredis), as `wayfarer run -- COMMAND` does.
// Routes: README.md beside this file.
"use strict";

const path = require("node:path");
const { createRequire } = require("node:module");

// The packages are installed under target/, not beside this file: NODE_APP_DIR names the folder that holds node_modules.
const from = createRequire(path.join(process.env.NODE_APP_DIR || __dirname, "package.json"));
const express = from("express");
const session = from("express-session");

const HOLD_MS_MAX = 5_000;
const BODY_BYTES_MAX = 16 * 1024 * 1024;
const COOKIE_AGE_MS = 3_600_000;

/** The store of the chosen client, connected. connect-redis 9 speaks only to node-redis; 8 is the last for ioredis. */
async function connectStore(name, url) {
  if (name === "ioredis") {
    const { Redis } = from("ioredis");
    const client = new Redis(url);
    client.on("error", (error) => console.error("redis:", error.message));
    const { RedisStore } = from("connect-redis-8");
    return new RedisStore({ client });
  }
  if (name !== "node-redis") throw new Error(`CLIENT is ${name}: use node-redis or ioredis`);
  const client = from("redis").createClient({ url });
  client.on("error", (error) => console.error("redis:", error.message));
  await client.connect();
  const { RedisStore } = from("connect-redis");
  return new RedisStore({ client });
}

/** Keeps the request in flight for `hold_ms`, between the read of the session and its write. */
function hold(req) {
  const asked_ms = Number.parseInt(req.query.hold_ms ?? "0", 10) || 0;
  return new Promise((done) => setTimeout(done, Math.min(Math.max(asked_ms, 0), HOLD_MS_MAX)));
}

/** A value of the session so that JSON carries it byte for byte. */
function shown(value) {
  if (typeof value === "number") return { number: value };
  // A Buffer comes back from the JSON of the session as this plain object.
  if (value?.type === "Buffer") return { base64: Buffer.from(value.data).toString("base64") };
  return { text: value };
}

function answer(req, res, more = {}) {
  res.json({ instance: process.env.INSTANCE || "", user: req.session?.user ?? null, ...more });
}

function loggedIn(req, res, next) {
  if (req.session.user !== undefined) return next();
  res.status(401);
  answer(req, res, { error: "not logged in" });
}

/** The variables of the service: the members of the session but the library's own cookie settings. */
function variables(req) {
  return Object.fromEntries(Object.entries(req.session).filter(([name]) => name !== "cookie"));
}

/** A variable is a member of the session object, as services write it; a name that would hide a part of the library is refused. */
function nameIsFree(req, res, next) {
  const name = req.query.name;
  const own = Object.hasOwn(req.session, name) && name !== "cookie";
  if (typeof name === "string" && name !== "" && (own || !(name in req.session))) return next();
  res.status(400);
  answer(req, res, { error: "this name cannot be used" });
}

function routes(store) {
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  // Before the session: the state of the process is asked without touching the store.
  app.get("/healthz", (req, res) => res.json({ instance: process.env.INSTANCE || "" }));
  app.use(
    session({
      store,
      name: "sid",
      secret: process.env.SECRET || "a secret of the client tests",
      resave: false,
      saveUninitialized: false,
      cookie: { maxAge: COOKIE_AGE_MS },
    }),
  );
  app.use(express.raw({ type: () => true, limit: BODY_BYTES_MAX }));

  app.post("/login", async (req, res) => {
    // A new id at login, as every guide to session fixation asks for: the old key is deleted, a new one written.
    const before = variables(req);
    await new Promise((done, fail) => req.session.regenerate((error) => (error ? fail(error) : done())));
    Object.assign(req.session, before, { user: req.query.user });
    await hold(req);
    answer(req, res);
  });
  app.get("/read", loggedIn, async (req, res) => {
    await hold(req);
    const list = Object.fromEntries(Object.entries(variables(req)).map(([name, value]) => [name, shown(value)]));
    answer(req, res, { variables: list });
  });
  app.post("/write", loggedIn, nameIsFree, async (req, res) => {
    // A body is a binary value, byte for byte; the parameter `value` is text.
    const body = Buffer.isBuffer(req.body) && req.body.length > 0 ? req.body.toJSON() : undefined;
    req.session[req.query.name] = body ?? req.query.value;
    await hold(req);
    answer(req, res);
  });
  app.post("/incr", loggedIn, nameIsFree, async (req, res) => {
    const number = (req.session[req.query.name] ?? 0) + 1;
    req.session[req.query.name] = number;
    await hold(req);
    answer(req, res, { number });
  });
  app.post("/logout", async (req, res) => {
    await hold(req);
    await new Promise((done, fail) => req.session.destroy((error) => (error ? fail(error) : done())));
    answer(req, res);
  });
  app.get("/whoami", (req, res) => answer(req, res));
  return app;
}

async function main() {
  const store = await connectStore(process.env.CLIENT || "node-redis", process.env.REDIS_URL);
  const server = routes(store).listen(Number(process.env.PORT), "127.0.0.1");
  for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => server.close(() => process.exit(0)));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
