// Package webhook takes in what the WhatsApp Business Cloud API delivers.
//
//	POST ─► signature over the raw bytes ─► raw body committed ─► 200
//	                                              │
//	                                     queue, by channel
//	                                              │
//	         read, every entry, change, message ◄─┘
//	                      │
//	          inbox.ReceiveWebhooks: one transaction for an organization's
//	          share of a batch, which also removes the raw bodies
//
// # Invariants
//
//   - 200 is answered only after the raw body's commit. What happens later (a
//     crash, a database that goes away, a full queue) loses nothing: a raw
//     body whose claim has run out is taken by the sweeper of any node. A
//     node renews the claims of what it works on, and gives them back when it
//     stops.
//   - The queues are bounded. When one is full its senders wait for their answer,
//     which slows them down to what is processed; after queueWait a body is
//     left to the sweeper, and answered.
//   - A signature speaks only for the channels with whose app secret it was
//     made. Items for other numbers in the same body are left out, though
//     the body as a whole was accepted.
//   - What cannot be read is set aside, item by item; the rest goes on.
//   - Webhooks of a channel are processed in the order of their arrival at a
//     node. Across nodes, and after failures, the order may differ: messages
//     are ordered by the provider's time, statuses by rank.
package webhook
