// A small official Socket.IO server with the product's handshake errors, for the tests of the test kit. Prints its port;
// ends with its standard input.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http);

io.use((socket, next) => {
  if (socket.handshake.auth.token === "good") return next();
  const error = new Error("Authentication failed: Invalid token");
  error.data = { code: "invalid_token" };
  next(error);
});

io.on("connection", (socket) => {
  const message = (seq) => {
    socket.emit("message:new", { id: seq }, { seq, epoch: "e1", at: new Date().toISOString() });
  };
  const { script, lastSeq } = socket.handshake.auth;
  if (!script) socket.emit("hello", socket.handshake.auth);
  else if (lastSeq === undefined) script.forEach((event) => socket.emit(...event));
  socket.on("echo", (...args) => {
    const acknowledge = args.pop();
    socket.emit("echoed", ...args);
    acknowledge({ ok: true });
  });
  socket.on("count", (n) => {
    for (let seq = 1; seq <= n; seq++) message(seq);
  });
  socket.on("send", (seqs) => seqs.forEach(message));
  socket.on("kick me", () => socket.disconnect());
});

http.listen(0, "127.0.0.1", () => console.log(http.address().port));
process.stdin.resume().on("end", () => process.exit(0));
