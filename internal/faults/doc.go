// Package faults proves that nothing is lost, doubled, out of order or leaked while parts of an installation die. It has
// tests only. `make test` plays every fault in a short form, `make faults` with the full numbers.
//
// # The world
//
// Each test starts an installation of real processes: private PostgreSQL and Redis, two API nodes, a worker, and the
// simulator of the Cloud API, which sends the customers' messages. A small TCP balancer in the test process stands before
// the API nodes. The screens are official Socket.IO clients in a Node.js process.
//
//	simulator ─► balancer ─► API node ─► PostgreSQL ─► Redis ─► API nodes ─► balancer ─► clients
//	    ▲                                                                                (testkit.Herd)
//	    └── worker ◄── replies
//
// The processes are the test binary itself, started again in another role, so that the race detector watches them too; with
// TEST_FULL=1 (make faults) they are the real commands, built with the flags of make build.
//
// # The oracle
//
// A driver lets customers write and operators reply, and keeps a ledger: each text holds a canary,
// canary-<organization>-<n>, unique in its organization. After the fault the test waits for quiet, which is a state
// and not a pause: every webhook acknowledged, no delivery pending, every reply delivered, every client at the head of its
// log. Then:
//
//   - lost, twice: each entry of the ledger is one row of messages and one message:new event; the log is 1..head.
//   - order: each client saw the numbers from its first to the head, each once, rising by one, and the canaries in them.
//   - leak: no canary of another organization in any packet, in REST, in the replayed log; none at all in the logs of
//     the processes, nor a token.
//   - residue: after the clients left, the nodes have the goroutines that they began with; no message is queued or sending.
//
// Processes must end cleanly, and their logs hold neither a panic nor a data race.
package faults
