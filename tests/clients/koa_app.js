// An ordinary Koa service with sessions in Redis: koa-session over koa-redis, nothing of Wayfarer in it.
//
// It never works around its libraries: the session is read whole before a request and written whole after one that has changed it.
// The client tests start it with PORT and REDIS_URL, as `wayfarer run -- COMMAND` does. Routes: README.md beside this file.
"use strict";

const { from, hold, allShown, facts, run, endWith, BODY_BYTES_MAX, COOKIE_AGE_MS } = require("./service.js");

/** The body as bytes. */
async function bodyOf(request) {
  const parts = [];
  let bytes = 0;
  for await (const part of request) {
    bytes += part.length;
    if (bytes > BODY_BYTES_MAX) throw new Error("a body that is too long");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The variables of the service: koa-session shows its own beginning with an underscore. */
function variables(session) {
  return Object.fromEntries(Object.entries(session.toJSON()).filter(([name]) => !name.startsWith("_")));
}

const ROUTES = {
  "POST /login": async (context) => {
    // A new id at login, as every guide to session fixation asks for: the old key is deleted, a new one written.
    context.session.user = context.query.user;
    await context.session.regenerate();
    await hold(context.query);
    return facts(context.session);
  },
  "GET /read": async (context) => {
    await hold(context.query);
    return facts(context.session, { variables: allShown(variables(context.session)) });
  },
  "POST /write": async (context) => {
    // A body is a binary value, byte for byte; the parameter `value` is text.
    const body = await bodyOf(context.req);
    context.session[context.query.name] = body.length > 0 ? body.toJSON() : context.query.value;
    await hold(context.query);
    return facts(context.session);
  },
  "POST /incr": async (context) => {
    const number = (context.session[context.query.name] ?? 0) + 1;
    context.session[context.query.name] = number;
    await hold(context.query);
    return facts(context.session, { number });
  },
  "POST /logout": async (context) => {
    await hold(context.query);
    context.session = null;
    return facts(undefined);
  },
  "GET /whoami": async (context) => facts(context.session),
};
const NEED_LOGIN = ["GET /read", "POST /write", "POST /incr"];

run(async () => {
  const module_of = (name) => from(name).default ?? from(name);
  const [Koa, session, redisStore] = ["koa", "koa-session", "koa-redis"].map(module_of);
  const app = new Koa();
  // Before the session: the state of the process is asked without touching the store.
  app.use(async (context, next) => {
    if (context.path === "/healthz") context.body = { instance: process.env.INSTANCE || "" };
    else await next();
  });
  const create = typeof session === "function" ? session : session.createSession;
  const store = redisStore({ url: process.env.REDIS_URL });
  app.use(create({ key: "sid", store, maxAge: COOKIE_AGE_MS, signed: false }, app));
  app.use(async (context) => {
    const route = `${context.method} ${context.path}`;
    if (!Object.hasOwn(ROUTES, route)) return;
    if (NEED_LOGIN.includes(route) && context.session.user === undefined) {
      context.status = 401;
      context.body = facts(context.session, { error: "not logged in" });
      return;
    }
    context.body = await ROUTES[route](context);
  });
  const server = app.listen(Number(process.env.PORT), "127.0.0.1");
  endWith((done) => server.close(done));
});
