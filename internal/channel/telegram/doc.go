// Package telegram connects Switchboard with Telegram bots over the Bot API, by
// long polling.
//
// convert turns updates into domain.Inbound values and is pure. A Session, made
// by NewFactory and run by the worker that holds the channel's lease, fetches
// updates, sends, and fetches files. The library telegram-bot-api builds the
// requests and reads the envelopes and the older types; contexts, deadlines and
// what Telegram added later are ours.
//
// # Updates
//
//		deleteWebhook, getMe ──► getUpdates(offset) ──► convert ──► one transaction:
//		       ▲                      ▲                             messages, events, offset
//		       │ 409, outage          └───────── committed ──────────────┘
//		       └── back-off, shown
//
//	  - Telegram forgets an update when a later request names a higher offset. The
//	    offset is committed with the messages before it, so a crash at any line
//	    neither loses an update nor takes one twice; the key of messages is there
//	    for the case that it does.
//	  - The offset is named until Telegram has answered to it. Then it is left out,
//	    since all that comes is new, even if its id is lower: ids begin anew after a
//	    week without updates.
//	  - An update that cannot be read is set aside, with a line in its chat if it
//	    can be told which that is; the others go on. So is one that makes the whole
//	    answer unreadable, once it stands there alone.
//	  - An update without an id cannot be confirmed, and would be handed out again at
//	    once for ever. It is set aside and is trouble, backed off and shown, until an
//	    update behind it takes it along.
//	  - When an answer cannot be read, fewer updates are asked for, and twice as many
//	    after each one that can.
//
// # Rivals
//
// Another program that polls with the same token ends our poll (409) and takes
// some of the updates. On a busy bot our polls succeed in between, so a success
// alone does not say that it is gone: the conflict stays on show until a poll has
// waited its whole time, or none was ended for clashWindow.
//
// # Ids
//
// A chat's address is Telegram's number in decimal. A message's external id is
// "<chat>:<message>", because messages are counted per chat. When a group
// becomes a supergroup, both change: the chat goes on under the new address
// (domain.Peer.Former), and messages from before cannot be changed any more,
// which their ids show. The topics of a group are one chat; the sender's name
// tells the topic.
//
// # What is known of a send
//
// The Bot API has no idempotency key, so Session.Send distinguishes what
// certainly did not happen (channel.NotSent), what Telegram refused
// (channel.Refused) and what may have happened (channel.Unknown):
//
//	no connection, or it broke before the request had left completely   NotSent
//	429 (retry_after is kept), a bad token, a group that has moved       NotSent
//	any other 4xx: blocked, no right, too long                           Refused
//	5xx, no answer, an answer cut short, one without a message id        Unknown
//
// The session keeps below Telegram's limits as a channel.Pacer (pace.go): what
// has to wait is not claimed, and stays in the outbox. What Telegram refuses all
// the same (429) waits for as long as it says, and longer each time.
package telegram
