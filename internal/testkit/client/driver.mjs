// Drives official Socket.IO clients for Go tests: commands come in and what happened goes out as JSON, one object a line.
// One process holds any number of clients; `c` says which. The process ends with its standard input.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";
import { Herd } from "./herd.mjs";

const clients = new Map();
const herds = new Map();

// What happens within one turn of the event loop leaves in one write.
let pending = [];
function report(message) {
  if (pending.length === 0) setImmediate(flush);
  pending.push(JSON.stringify(message));
}
function flush() {
  const lines = pending;
  pending = [];
  if (lines.length > 0) process.stdout.write(lines.join("\n") + "\n");
}

// Microseconds since 1970; unlike Date.now() fine enough to measure a broadcast.
const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000);

const transportOf = (socket) => socket.io.engine?.transport?.name ?? "";

// Checks the sequence numbers of the events' meta argument here, for tests with more events than are worth handing over.
class Ledger {
  count = 0;
  first = 0;
  last = 0;
  gaps = [];
  twice = [];
  resets = 0;
  maxLatencyMs = 0;

  add(name, meta) {
    this.count++;
    if (name === "sync:reset") this.resets++;
    if (typeof meta?.seq !== "number") return;
    if (this.first === 0) this.first = meta.seq;
    else if (meta.seq <= this.last) this.twice.push(meta.seq);
    else if (meta.seq > this.last + 1) this.gaps.push([this.last + 1, meta.seq - 1]);
    this.last = Math.max(this.last, meta.seq);
    const latency = Date.now() - Date.parse(meta.at);
    if (latency > this.maxLatencyMs) this.maxLatencyMs = latency;
  }
}

function open(command) {
  const client = { auth: command.auth ?? {}, position: undefined, ledger: new Ledger() };
  const socket = io(command.url, {
    forceNew: true,
    autoConnect: false,
    ...command.options,
    // Asked at every connection attempt, so that a reconnect carries the newest position, as the dashboard's does.
    auth: (answer) => answer({ ...client.auth, ...(command.trackSeq ? client.position : undefined) }),
  });
  client.socket = socket;
  clients.set(command.c, client);
  const tell = (kind, more) => report({ c: command.c, kind, ...more });

  socket.on("connect", () => {
    tell("connect", { id: socket.id, transport: transportOf(socket), recovered: socket.recovered });
    socket.io.engine.on("upgrade", (transport) => tell("transport", { transport: transport.name }));
  });
  socket.on("connect_error", (error) => {
    tell("connect_error", { message: error.message, data: error.data ?? null, final: !socket.active });
  });
  socket.on("disconnect", (reason) => tell("disconnect", { reason, transport: "" }));
  socket.onAny((name, ...args) => {
    const acknowledge = typeof args.at(-1) === "function" ? args.pop() : undefined;
    const meta = args[1];
    if (typeof meta?.seq === "number") client.position = { lastSeq: meta.seq, epoch: meta.epoch };
    client.ledger.add(name, meta);
    if (!command.ledgerOnly) tell("event", { name, args, at: now() });
    acknowledge?.({ ok: true });
  });
}

// As when the network is pulled: no closing handshake, no Socket.IO disconnect packet.
function drop(socket) {
  const engine = socket.io.engine;
  if (engine?.transport?.ws?.terminate) engine.transport.ws.terminate();
  else engine?.close();
}

const operations = {
  open,
  connect: ({ client }) => client.socket.connect(),
  auth: ({ client, auth }) => {
    client.auth = auth ?? {};
  },
  emit: ({ client, c, name, args, ack }) => {
    if (ack) client.socket.emit(name, ...args, (...answer) => report({ c, kind: "ack", ack, args: answer }));
    else client.socket.emit(name, ...args);
  },
  drop: ({ client }) => drop(client.socket),
  disconnect: ({ client }) => client.socket.disconnect(),
  ledger: ({ client, c, ack }) => report({ c, kind: "ack", ack, args: [client.ledger] }),
  close: ({ client, c }) => {
    client.socket.disconnect();
    clients.delete(c);
    report({ c, kind: "closed" });
  },
};

// Each answers its ack, so that the test knows when it is done.
const herdOperations = {
  "herd:open": ({ c, url, options, args }, answer) => {
    herds.set(c, new Herd({ url, options: options ?? {}, ...args[0] }));
    answer();
  },
  "herd:connect": ({ herd }, answer) => answer(herd.connect()),
  "herd:drop": ({ herd, args }, answer) => answer(herd.drop(args[0])),
  "herd:leave": ({ herd }, answer) => answer(herd.leave()),
  "herd:mark": ({ herd }, answer) => answer(herd.mark()),
  "herd:await": ({ herd, args }, answer) => herd.await(args[0], answer),
  "herd:report": ({ herd }, answer) => answer(herd.report()),
};

const commands = createInterface({ input: process.stdin, crlfDelay: Infinity });
commands.on("line", (line) => {
  const command = JSON.parse(line);
  const { c, ack } = command;
  const herdOperation = herdOperations[command.op];
  if (herdOperation) {
    herdOperation({ ...command, herd: herds.get(c) }, (answer = null) => report({ c, kind: "ack", ack, args: [answer] }));
    return;
  }
  const client = clients.get(c);
  if (command.op !== "open" && !client) return; // closed a moment ago
  operations[command.op]({ ...command, client });
});
commands.on("close", () => {
  for (const { socket } of clients.values()) socket.disconnect();
  for (const herd of herds.values()) herd.leave();
  flush();
  // One more turn, in which the goodbyes leave.
  setTimeout(() => process.exit(0), 20);
});
