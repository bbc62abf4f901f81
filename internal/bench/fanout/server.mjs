// The Node peer of `bench fanout`: the official Socket.IO server with the official Redis adapter, in its fastest usual form.
// WebSocket only, no per-message deflate, no logging; every client joins the room that its token names. Arguments: the folder whose
// node_modules holds the packages, and the URL of Redis. Prints where it listens; ends with its standard input or SIGTERM.
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { join } from "node:path";

const [packages, redisURL] = process.argv.slice(2);
const require = createRequire(join(packages, "package.json"));
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

const publisher = createClient({ url: redisURL });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(publisher, subscriber),
  transports: ["websocket"],
  perMessageDeflate: false,
  serveClient: false,
});
io.on("connection", (socket) => {
  socket.join(socket.handshake.auth.token);
});

http.listen(0, "127.0.0.1", 4096, () => {
  process.stdout.write(`listening on 127.0.0.1:${http.address().port}\n`);
});
process.stdin.on("end", () => process.exit(0)).resume();
process.on("SIGTERM", () => process.exit(0));
