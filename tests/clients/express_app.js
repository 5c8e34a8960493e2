// An ordinary Express service with sessions in Redis: express-session over connect-redis, nothing of Wayfarer in it.
//
// It never works around its libraries: the session is read whole before a request and written whole (or touched) after it.
// The client tests start it with PORT, REDIS_URL and CLIENT (node-redis | ioredis), as `wayfarer run -- COMMAND` does.
// Routes: README.md beside this file.
"use strict";

const { from, hold, allShown, facts, nodeRedis, run, endWith, BODY_BYTES_MAX, COOKIE_AGE_MS } = require("./service.js");
const express = from("express");
const session = from("express-session");

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
  const { RedisStore } = from("connect-redis");
  return new RedisStore({ client: await nodeRedis(url) });
}

function answer(req, res, more = {}) {
  res.json(facts(req.session, more));
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
    await hold(req.query);
    answer(req, res);
  });
  app.get("/read", loggedIn, async (req, res) => {
    await hold(req.query);
    answer(req, res, { variables: allShown(variables(req)) });
  });
  app.post("/write", loggedIn, nameIsFree, async (req, res) => {
    // A body is a binary value, byte for byte; the parameter `value` is text.
    const body = Buffer.isBuffer(req.body) && req.body.length > 0 ? req.body.toJSON() : undefined;
    req.session[req.query.name] = body ?? req.query.value;
    await hold(req.query);
    answer(req, res);
  });
  app.post("/incr", loggedIn, nameIsFree, async (req, res) => {
    const number = (req.session[req.query.name] ?? 0) + 1;
    req.session[req.query.name] = number;
    await hold(req.query);
    answer(req, res, { number });
  });
  app.post("/logout", async (req, res) => {
    await hold(req.query);
    await new Promise((done, fail) => req.session.destroy((error) => (error ? fail(error) : done())));
    answer(req, res);
  });
  app.get("/whoami", (req, res) => answer(req, res));
  return app;
}

run(async () => {
  const store = await connectStore(process.env.CLIENT || "node-redis", process.env.REDIS_URL);
  const server = routes(store).listen(Number(process.env.PORT), "127.0.0.1");
  endWith((done) => server.close(done));
});
