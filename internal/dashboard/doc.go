// Package dashboard is the operator's web page. Its sources are in ui/ (TypeScript, Preact, Vite); dist/ is what
// `npm ci && npm run build` in ui/ makes of them, committed and embedded, so that building the Go program needs no Node.
//
// The page is a client of the public API like any other: REST and Socket.IO of its own origin, nothing else. In ui/src:
//
//	contract.ts       the API's JSON, type by type
//	session.ts        tokens, their renewal, and sign-in by link
//	live.ts           the socket: every event of the log once, in order
//	inbox/data.ts     what the page knows, and how events change it; pure, and tested as such
//	inbox/journal.ts  brings a snapshot up to the events that came while it was under way
//	inbox/outbox.ts   what was sent and is not yet taken
//	workspace.ts      the above, put together for one signed-in user
//	views/            what is seen
package dashboard
