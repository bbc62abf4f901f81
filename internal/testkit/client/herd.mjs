// Many official Socket.IO clients at once. What each one receives is checked here, so that a test with thousands of clients
// learns the result and not every event.
import { io } from "socket.io-client";

// One client of a herd. It keeps its position in the event log as the dashboard does: {seq, epoch} of the newest event, or
// what sync:reset said.
class Member {
  connections = 0;
  disconnects = 0;
  refused = "";
  first = 0;
  last = 0;
  epoch = "";
  events = 0;
  gaps = 0; // numbers that were jumped over and never came
  doubles = 0; // numbers that came again
  disorders = 0; // numbers that came after a higher one
  strays = 0; // of another epoch, without a reset
  leaks = 0;
  leaked = "";
  resets = 0;
  canaries = 0;
  canarySum = 0;
  jumped = new Set();
  droppedAt = 0;
  connectedAt = 0;
  caughtUpAt = 0;

  constructor(herd, { auth, group }) {
    this.herd = herd;
    this.group = group;
    this.socket = io(herd.url, {
      forceNew: true,
      autoConnect: false,
      ...herd.options,
      auth: (answer) => answer({ ...auth, ...(this.epoch === "" ? undefined : { lastSeq: this.last, epoch: this.epoch }) }),
    });
    this.socket.on("connect", () => this.connected());
    this.socket.on("disconnect", () => this.disconnected());
    this.socket.on("connect_error", (error) => {
      this.refused = error.message;
    });
    this.socket.io.on("open", () => this.socket.io.engine.on("packet", ({ data }) => this.inspect(data)));
    this.socket.onAny((name, data, meta) => this.take(name, data, meta));
  }

  connected() {
    this.connections++;
    this.connectedAt = Date.now();
    this.caughtUpAt = 0;
    if (this.droppedAt > 0) this.herd.back.push(this.connectedAt - this.droppedAt);
    this.droppedAt = 0;
  }

  disconnected() {
    this.disconnects++;
    this.droppedAt = Date.now();
    this.noteCatchUp();
  }

  // From being connected to the last event that was committed before.
  noteCatchUp() {
    if (this.caughtUpAt > 0) this.herd.catchUp.push(this.caughtUpAt - this.connectedAt);
    this.caughtUpAt = 0;
  }

  // Looks for other groups' canaries in a packet as it came, whatever event it is.
  inspect(data) {
    if (typeof data !== "string" || !data.includes(this.herd.canary)) return;
    for (const [found, group] of data.matchAll(this.herd.pattern)) {
      if (group !== this.group) {
        this.leaks++;
        this.leaked = found;
      }
    }
  }

  take(name, data, meta) {
    this.events++;
    if (name === "sync:reset") return this.reset(data);
    if (typeof meta?.seq !== "number") return;
    const { seq, epoch } = meta;
    const now = Date.now();
    const at = Date.parse(meta.at);
    if (at < this.connectedAt) this.caughtUpAt = now;
    else this.herd.latency.push(now - at);
    if (this.epoch !== "" && epoch !== this.epoch) this.strays++;
    if (this.first === 0) this.first = seq;
    else if (seq <= this.last) return this.repeated(seq);
    else for (let n = this.last + 1; n < seq && this.jumped.size < 1000; n++) this.jumped.add(n);
    this.gaps = this.jumped.size;
    this.last = seq;
    this.epoch = epoch;
    if (name !== "message:new") return;
    const canary = this.herd.single.exec(data.content);
    if (canary) {
      this.canaries++;
      this.canarySum += Number(canary[2]);
    }
  }

  repeated(seq) {
    if (this.jumped.delete(seq)) this.disorders++;
    else this.doubles++;
    this.gaps = this.jumped.size;
  }

  reset({ head, epoch }) {
    this.resets++;
    this.last = head;
    this.first = head + 1;
    this.epoch = epoch;
    this.jumped.clear();
    this.gaps = this.canaries = this.canarySum = 0;
    if (this.caughtUpAt === 0) this.caughtUpAt = Date.now();
  }

  report() {
    const { group, connections, disconnects, refused, first, last, epoch, events, gaps, doubles, disorders, strays, leaks, leaked, resets } = this;
    const { canaries, canarySum } = this;
    return {
      group, connected: this.socket.connected, connections, disconnects, refused, first, last, epoch, events, gaps, doubles, disorders,
      strays, leaks, leaked, resets, canaries, canarySum,
    };
  }
}

export class Herd {
  latency = []; // of live events, from commit to client
  back = []; // from a disconnect to the next connect
  catchUp = [];

  constructor({ url, options, canary, clients }) {
    Object.assign(this, { url, options, canary });
    this.pattern = new RegExp(canary + "([a-z0-9]+)-(\\d+)", "g");
    this.single = new RegExp(canary + "([a-z0-9]+)-(\\d+)");
    this.members = clients.map((client) => new Member(this, client));
  }

  connect() {
    for (const { socket } of this.members) {
      socket.io.reconnection(this.options.reconnection ?? true);
      if (!socket.connected) socket.connect();
    }
  }

  // As when the network is pulled: no closing handshake, no Socket.IO disconnect packet.
  drop({ stay }) {
    for (const { socket } of this.members) {
      if (stay) socket.io.reconnection(false);
      const engine = socket.io.engine;
      if (engine?.transport?.ws?.terminate) engine.transport.ws.terminate();
      else engine?.close();
    }
  }

  leave() {
    for (const { socket } of this.members) socket.disconnect();
  }

  // Forgets the times that were taken so far.
  mark() {
    this.latency = [];
    this.back = [];
    this.catchUp = [];
  }

  reached({ connected, connections, resets, heads }) {
    let now = 0;
    let total = 0;
    for (const m of this.members) {
      if (m.socket.connected) now++;
      total += m.connections;
      if (m.resets < resets) return false;
      const head = heads?.[m.group];
      if (head && (m.last < head.seq || m.epoch !== head.epoch)) return false;
    }
    return total >= connections && (connected < 0 || now === connected);
  }

  // Calls done when the goal is reached.
  await(goal, done) {
    const began = performance.now();
    const look = () => {
      if (!this.reached(goal)) return void setTimeout(look, 5);
      done(performance.now() - began);
    };
    look();
  }

  report() {
    for (const member of this.members) if (member.socket.connected) member.noteCatchUp();
    return {
      clients: this.members.map((member) => member.report()),
      latencyMs: percentiles(this.latency),
      backMs: percentiles(this.back),
      catchUpMs: percentiles(this.catchUp),
    };
  }
}

function percentiles(values) {
  const sorted = Float64Array.from(values).sort();
  const at = (share) => (sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]);
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}
