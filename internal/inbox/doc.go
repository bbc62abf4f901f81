// Package inbox is the use cases: what happens when a customer writes, when an
// operator answers, reads, assigns or resolves, when a provider reports a
// status. Everything that changes an organization's chats goes through here
// once: one transaction with its events, then the sockets, then (where a
// provider must act) a wake-up for the channel's worker.
//
// The package knows no transport: it declares the two small interfaces that it
// needs, Publisher and Waker.
package inbox
