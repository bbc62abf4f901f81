// Package store keeps everything in PostgreSQL or SQLite, through one code
// path: GORM for connections, transactions and scanning, SQL that both
// databases understand, and versioned migrations.
//
// # Invariants
//
//   - A change and its events are one transaction (InOrg). The counter row in
//     event_heads is updated by its last statement, so that an organization's
//     seq is 1..N in commit order and has no gap: a transaction that fails
//     takes its numbers back with it.
//   - Whatever a worker writes for a channel is guarded by its lease's term
//     (Holding). The guard locks the lease row against a change of owner: a
//     take-over passes over a row while writers hold the old term, and refuses
//     the rest. A renewal is none, and waits for nobody: no writer, however long
//     it waits for something, keeps a worker from prolonging its leases.
//   - A message is known by (channel, external id, chat, sender). That unique
//     key, and nothing in memory, decides what is a redelivery.
//   - A person is one contact, with one direct chat on a channel: contacts that
//     turn out to be one are merged, and so are their chats. What is put into a
//     chat at that moment waits, and finds it gone or is in the one that stays.
//   - A chat with a queued message has a row in outbox: triggers see to that,
//     whoever queues it. A claim locks the rows that it looks at, or passes them
//     over, so that what is queued beside it never loses its place.
//   - What operators see of a message and customers do not, since a change of ours
//     waits for the provider, can be put back: message_seen has what the customer
//     sees while there is such a command, and no row without one.
//   - Locks are taken in the order lease, contact, chat, message, command, file,
//     counter row. An action on one message locks that first, and its chat when it
//     is told of.
//     What still collides (two transactions that touch several chats in
//     different order) is ended by the database and run again. A row of outbox
//     is locked by whoever queues for its chat, before the chat, and by claims,
//     which wait for nothing but the counter row.
//   - Times are Unix milliseconds. Leases go by the database's clock, the rest
//     by the process's.
//   - Every query about an organization's data names the organization.
package store
