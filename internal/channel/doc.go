// Package channel says what a channel session is: the small interface that
// every provider's package fills, the capabilities that it may have besides,
// and the coded states and outcomes that the rest of the house understands.
//
// A session is made by a Factory, run by a worker that holds the channel's
// lease, and ends with its context. It knows no store: what it receives it
// hands to its Host, what it shall send it is given. How the channel is it tells
// from the first step of Run on (Host.SetStatus).
//
// # What a session may rely on
//
//   - Run is called once. Its context ends when the lease is lost or released,
//     the channel is disabled or changed, or the worker stops; Run returns soon
//     after, with nothing of the session left running.
//   - Send, Do, FetchMedia and Typing are called only between Ready and the
//     end of Run's context, possibly at the same time. For one chat there is
//     at most one Send or Do at a time.
//   - Nothing leaves that a Pacer's Pace did not let through, but for read
//     receipts and typing signals.
//   - Config.Intake keeps the position of a provider that hands out what follows
//     one: it is committed together with what came before it, or not at all.
//   - Host.Receive returns nil only when everything it was given is committed:
//     acknowledge to the provider after that, never before.
package channel
