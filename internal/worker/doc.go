// Package worker owns the channels' sessions: it takes leases, runs one
// supervisor for each channel that it holds, and carries out what waits in the
// database for the channel's provider (messages, commands, downloads).
//
// # A lease
//
// A lease is a row with a holder, a term and an expiry by the database's
// clock. The worker trusts one only until
//
//	start of the last renewal that succeeded + TTL − margin (an eighth of TTL)
//
// by its own monotonic clock. A renewal that was slow prolongs the trust by
// what it took less, since the time counts from its start.
//
//	          acquire                        trust ends, or a renewal
//	free ───────────────────► held ───────── or a write finds it lost ──────────► lost
//	 ▲       (term + 1)        │ ▲ │                                               │
//	 │                         │ └─┘ renew, every TTL/3                            │ the session is
//	 │  SIGTERM, disabled,     ▼                                                   ▼ cancelled at once
//	 └──── deleted ◄── draining: no new claims, sends finish,        stopping: nothing more is
//	  (released) ▲     Run ends, lease ends at once, others are      written; the row expires by
//	             │     woken to take it                              itself, or is taken
//	             │
//	             └── handed back: a dedicated worker wants it, or another one has fewer
//
// # Who takes what
//
// Every worker gives a sign of life each TTL/3: a row with an expiry by the
// database's clock (store.Enlist). Workers of the pool share the channels out by
// these rows (spread.go): to each the level, up to which there is enough for
// all, and one more to some. Who has more hands the newest back, so many as the
// others lack and no more. What is free is taken
//
//	at once             by who has less than its share
//	after two looks     by whoever may have one more
//	after half a TTL    by whoever has room
//
// A dedicated worker's row carries reservations: the pool passes reserved
// channels over, and hands back those it has.
//
//	             a dedicated worker that wants it lives
//	in the pool ────────────────────────────────────────► handed back ──► dedicated
//	     ▲                                                                   │
//	     └─────────────── it stops, or its time runs out ◄───────────────────┘
//
// # A channel
//
//	load ──► connecting ──► ready ──► Run ends ──► back-off (shown) ──► load
//	           ▲                         │ permanent: wait for a change of the channel
//	           └── config_version rose ──┘
//
// While tries fail one after the other, the reason of the failure stays on show,
// with the longest wait before the next: a channel that fails for ever makes a
// bounded number of events.
//
// # A message
//
//	queued ──claim──► sending ──► sent ──► delivered ──► read
//	  ▲                 │ ├─────► failed    (the provider said no, or tried too often)
//	  │   certainly     │ └─────► unknown   (it left, and no answer came; or the
//	  └── not sent ─────┘                    worker died with it)
//
// # Invariants
//
//   - A channel has at most one supervisor here, and at most one worker has a
//     trusted lease on it. The session's context ends before the lease expires.
//   - Every transaction for a channel is guarded by the lease's term
//     (store.Holding): a worker that was paused writes nothing afterwards.
//   - A channel that waits for a lock costs no other channel anything: renewals
//     wait for no row, and what a session stores is given up after a while, to
//     come again.
//   - A message leaves only after its claim is committed, and only while the
//     lease is trusted; a send that is under way ends with the trust.
//   - Within a chat one thing at a time is sent or done, in order. Chats do not
//     wait for each other.
//   - What the provider's limits hold back (channel.Pacer) is not claimed: it
//     stays queued and takes no place. Bulk takes at most bulkPlaces.
//   - A pause that the provider asks of the whole channel holds through all
//     sessions under the lease. The next worker does not know of it: it is told
//     again by the first thing that it sends, which waits and does not fail.
//   - A message whose outcome is not known is not sent again by itself, unless
//     the provider recognises the repetition (channel.Resender).
//   - What a crash leaves in "sending" is settled before the next session of
//     the channel sends anything, also where that never opens (residue.go); and
//     where no worker takes the channel, by an API node
//     (inbox.RecoverLeftovers).
//   - A deleted channel with a linked device is held once more: for the session
//     that ends the link.
//   - Under one lease only the loop of the dispatcher claims, and it knows every
//     message that it started: those under way, and those whose known outcome
//     the database refuses (residue). What else is in "sending" under the
//     lease's term comes from a claim whose answer was lost: it was never handed
//     to the provider, and goes back uncounted before the next claim.
//   - A known outcome is kept and written again until the database takes it or
//     the lease is lost, through all sessions under the lease; its message is
//     neither sent again nor called unknown meanwhile.
//   - Sharing out is never a reason for a channel to stay closed: the row of a
//     worker that stops goes before its leases do, that of one that died ends
//     with them, and what nobody has taken for half a TTL is taken beyond the
//     level.
//   - What is even does not move, nothing moves to and fro, and a channel that
//     nobody took is not offered again for a while.
//   - Moving a channel, or changing it, costs no message its certainty: its sends
//     finish first. Stopping the worker or disabling the channel leaves them
//     DrainTimeout, also where they are waited for already.
//   - A channel whose session outlives its lease is not taken again beside it, and
//     a session that does not end when it is told to outlives its lease: the
//     channel is left to other workers.
//   - Redis only wakes. What it loses, one query per poll for all channels of
//     the worker finds.
//
// # Who stops what
//
// Stop ends the search for channels, then all supervisors in parallel, each of
// which drains its dispatcher, then its session, then releases its lease; the
// renewals go on until the last one is done. What else goes on beside the search
// (states that could not be written, typing signals, answers to requests) is
// waited for last: it holds up no hand-over. A session that does not end in
// time is left behind, and so is its lease, to expire. Queues are bounded: a
// channel claims no more than it has room to send, the rest stays in the
// database; wakes for one channel collapse into one; typing signals beyond the
// bound are dropped.
package worker
