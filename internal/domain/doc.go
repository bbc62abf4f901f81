// Package domain says what Switchboard is about: organizations and their
// users, channels, contacts, chats, messages, tickets, and the event log that
// tells every operator's screen what changed.
//
// Types here are the shapes that users see: what a REST route answers and what
// a socket event carries are the same value, encoded the same way (camelCase
// JSON, int64 ids as numbers, times as RFC 3339 UTC with milliseconds).
// The package imports only the standard library and knows no storage, no
// transport and no provider.
package domain
