// An ordinary Fastify service with sessions in Redis: @fastify/session over connect-redis and node-redis, nothing of Wayfarer in it.
//
// It never works around its libraries: the session is read whole before a request and written whole after it, also after one that
// only reads. The client tests start it with PORT and REDIS_URL, as `wayfarer run -- COMMAND` does. Routes: README.md beside this file.
"use strict";

const { from, hold, allShown, facts, nodeRedis, run, endWith, BODY_BYTES_MAX, COOKIE_AGE_MS } = require("./service.js");

/** The variables of the service: the members of the session but the library's own cookie settings. */
function variables(session) {
  return Object.fromEntries(Object.entries(session).filter(([name]) => name !== "cookie"));
}

async function loggedIn(request, reply) {
  if (request.session.user === undefined) await reply.code(401).send(facts(request.session, { error: "not logged in" }));
}

async function service(store) {
  const app = from("fastify")({ bodyLimit: BODY_BYTES_MAX, forceCloseConnections: true });
  // Outside of the session: the state of the process is asked without touching the store.
  app.get("/healthz", async () => ({ instance: process.env.INSTANCE || "" }));
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  await app.register(async (inside) => {
    await inside.register(from("@fastify/cookie"));
    await inside.register(from("@fastify/session"), {
      store,
      cookieName: "sid",
      secret: process.env.SECRET || "a secret of the client tests, of 32 characters at least",
      saveUninitialized: false,
      cookie: { maxAge: COOKIE_AGE_MS, secure: false },
    });
    routes(inside);
  });
  return app;
}

function routes(app) {
  app.post("/login", async (request) => {
    // A new id at login, as every guide to session fixation asks for: the old key is deleted, a new one written.
    await request.session.regenerate(Object.keys(variables(request.session)));
    request.session.user = request.query.user;
    await hold(request.query);
    return facts(request.session);
  });
  app.get("/read", { preHandler: loggedIn }, async (request) => {
    await hold(request.query);
    return facts(request.session, { variables: allShown(variables(request.session)) });
  });
  app.post("/write", { preHandler: loggedIn }, async (request) => {
    // A body is a binary value, byte for byte; the parameter `value` is text.
    const body = Buffer.isBuffer(request.body) && request.body.length > 0 ? request.body.toJSON() : undefined;
    request.session[request.query.name] = body ?? request.query.value;
    await hold(request.query);
    return facts(request.session);
  });
  app.post("/incr", { preHandler: loggedIn }, async (request) => {
    const number = (request.session[request.query.name] ?? 0) + 1;
    request.session[request.query.name] = number;
    await hold(request.query);
    return facts(request.session, { number });
  });
  app.post("/logout", async (request) => {
    await hold(request.query);
    await request.session.destroy();
    return facts(undefined);
  });
  app.get("/whoami", async (request) => facts(request.session));
}

run(async () => {
  const { RedisStore } = from("connect-redis");
  const app = await service(new RedisStore({ client: await nodeRedis(process.env.REDIS_URL) }));
  await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
  endWith((done) => app.close().then(done));
});
