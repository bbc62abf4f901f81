// Package telegram simulates the Telegram Bot API over HTTP, with the customers' apps behind it. It knows nothing of the
// product that it is used to try and test. What it answers follows https://core.telegram.org/bots/api and the published
// server, https://github.com/tdlib/telegram-bot-api, whose words its errors have.
//
//	sim, err := telegram.New(telegram.Options{Bots: []telegram.Bot{telegram.DemoBot()}, Customers: telegram.DemoCustomers()})
//	http.Serve(listener, sim.Handler()); sim.Start(ctx); defer sim.Close()
//
// # What is simulated
//
//   - /bot<token>/<method> by GET and POST, with parameters in the address, a form, multipart or JSON, for many bots; see
//     methods for which. Unknown ones are answered 404, unknown tokens 401. Unknown parameters are ignored.
//   - getUpdates: an offset confirms everything below it; one more than 10 beyond the last update is ignored; a negative one
//     forgets all but the last. An update lives for 24 hours. allowed_updates is remembered and holds for updates to come.
//     A second poller ends the first with 409; a webhook excludes polling. The same offset asked again within half a second
//     is answered with one update, within 3 seconds it waits (Telegram's brake; a bot without limits is spared).
//   - Webhooks, to this machine only: one update at a time, in order, until it is answered 2xx.
//   - Files: uploads of at most 50 MB, downloads of at most 20 MB, links that live for an hour, file ids that only the bot
//     can use that they were made for. By URL files come from this machine only.
//   - Limits: 30 messages a second per bot, one a second per chat after a burst of 5, 20 a minute per group; faster is 429
//     with retry_after. Options.NoLimits and Bot.NoLimits lift them.
//   - Chats: private ones, which a customer must begin and can block; groups with several bots, privacy, and their migration
//     to supergroups; channels.
//   - Faults of all of these, Fault, and a Ledger of everything, to compare with what the product believes: each call with
//     its outcome, each update with its first delivery, redeliveries and confirmation, each poll from when to when, and
//     where two polls of a bot met.
//
// What Telegram does and this does not: payments, games, passports, inline mode, stories, business connections, forums
// beyond message_thread_id, stickers' sets, and administrators' rights finer than being one. Message ids of a group are
// the group's own, also before it is a supergroup. logOut and close keep nobody out.
//
// # Control API
//
// Everything that the Go API does can be done over HTTP; GET /control/ lists the routes, and GET / is a page on which one
// acts as the customer. JSON bodies have the shapes of Bot, Customer, Group, Incoming, Fault, Entry, Update and LongPoll.
//
// # Who locks what
//
// Server.mu guards bots, customers, chats and their updates. The ledger, the faults, the files and the event streams have a
// mutex of their own, always taken after Server.mu; the ledger takes the streams' while it holds its own. A call holds
// Server.mu while it takes effect, never while it waits, hangs or writes its answer.
package telegram
