// Package faults proves that nothing is lost, doubled, out of order or leaked while parts of an installation die. It has
// tests only. `make test` plays every fault but the soak in a short form, `make faults` with the full numbers.
//
// # The world
//
// Each test starts an installation of real processes: private PostgreSQL and Redis, two API nodes, workers, and the
// simulators of the Cloud API, of Telegram and of WhatsApp Web, by which the customers of each organization write: on the last
// where the plan says linked, to a number that was linked by QR code. A small TCP balancer in the test process stands before the
// API nodes. The screens are official Socket.IO clients in a Node.js process.
//
//	Cloud API ─► balancer ─► API node ─► PostgreSQL ─► Redis ─► API nodes ─► balancer ─► clients
//	    ▲                                    ▲                                         (testkit.Herd)
//	    │ replies                          ┤ cut ├
//	    └───────┤ cut ├───── worker ─────────┘
//	                          │  ▲
//	                     replies  updates
//	                          ▼  │
//	                         ┤ cut ├
//	                   Telegram, WhatsApp
//
// The processes are the test binary itself, started again in another role, so that the race detector watches them too; with
// TEST_FULL=1 (make faults) they are the real commands, built with the flags of make build.
//
// Each worker has ways of its own (testkit.Proxy) to PostgreSQL and to the providers. They can be cut without a word, and they tell
// in the simulators' ledgers and in the database who did what.
//
// # The oracle
//
// A driver lets customers write and operators reply, and keeps a ledger: each text holds a canary,
// canary-<organization>-<n>, unique in its organization. After the fault the test waits for quiet, which is a state
// and not a pause: every webhook acknowledged, every update confirmed, no delivery pending, every reply delivered or of
// unknown fate, every client at the head of its log. Then:
//
//   - lost, twice: each entry of the ledger is one row of messages and one message:new event; the log is 1..head. A reply
//     reached its customer once if the product believes so, at most once otherwise, and once more for each time that an
//     operator sent it again. From a linked number it is shown once in any case, and the product is never left in doubt.
//   - order: each client saw the numbers from its first to the head, each once, rising by one, and the canaries in them.
//     The replies of a chat reached the customer in their order, and what customers wrote to a linked number is in its order.
//   - leases: each poll, login and send began while its worker had the channel's lease, no bot had two pollers and no number
//     two sessions, no session outlived its lease, no worker wrote for a channel that another one held, the keys of linked
//     numbers included, and nothing was confirmed before its message's commit. Triggers and the database's commit times say
//     so (audit).
//   - leak: no canary of another organization in any packet, in REST, in the replayed log; none at all in the logs of
//     the processes, nor a token.
//   - residue: after the clients left, the nodes have the goroutines that they began with; no message is queued or sending.
//
// Processes must end cleanly, and their logs hold neither a panic nor a data race. TestOracleFindsFaults makes each of
// these faults by hand.
//
// # The soak
//
// F16 plays the faults one after the other, chosen at random: TEST_SOAK=1h is how long (5 minutes unless set), TEST_SEED repeats
// the choices of a run.
package faults
