// Package app puts the parts together. It is the only one that knows them all:
// what talks to what is decided here, and nowhere else.
//
// An API node, a worker and the standalone are values with Run and Close, so
// that a test can start several of them in one process, on any free port.
//
//	core        database, Redis, files, metrics: what every process has
//	API         core + accounts + Socket.IO + REST + webhooks
//	Worker      core + channel sessions
//	Standalone  one core with both, an in-process Redis, and the demo
package app
