// One connection of a client library, shared by all commands: reads lines `label COMMAND arguments`, sends each command at once,
// without waiting for those before, and prints `label reply` when its reply has come.
//
// It never retries. The client tests start it with PORT, CLIENT (node-redis | ioredis) and NODE_APP_DIR. It ends with its input.
"use strict";

const path = require("node:path");
const readline = require("node:readline");
const { createRequire } = require("node:module");

const from = createRequire(path.join(process.env.NODE_APP_DIR, "package.json"));

/** A function that sends a command over the one connection. */
async function connect(name, port) {
  if (name === "ioredis") {
    const { Redis } = from("ioredis");
    const client = new Redis({ port, maxRetriesPerRequest: 0 });
    return (words) => client.call(...words);
  }
  if (name !== "node-redis") throw new Error(`CLIENT is ${name}: use node-redis or ioredis`);
  const client = from("redis").createClient({ socket: { port, host: "127.0.0.1" } });
  client.on("error", (error) => console.error("redis:", error.message));
  await client.connect();
  return (words) => client.sendCommand(words);
}

async function main() {
  const send = await connect(process.env.CLIENT, Number(process.env.PORT));
  console.log("connected yes");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [label, ...words] = line.split(" ");
    send(words).then(
      (reply) => console.log(label, String(reply)),
      (error) => console.log(label, error.message),
    );
  }
  process.exit(0);
}

main();
