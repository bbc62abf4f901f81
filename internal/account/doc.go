// Package account is who may do what: organizations and their users, signing in and staying signed in, API keys, and the
// proof of a caller for REST and Socket.IO alike.
//
// # Sessions
//
// A sign-in is a session. It has a chain of refresh tokens, each of which is used once and replaced by the next, and
// access tokens that name the session. Every request asks the database whether the session and its user still stand, so
// that a revocation holds from the next request on; open sockets are told by a Disconnecter, and asked after with
// StillValid by whoever holds them.
//
// A refresh token that is presented after it was replaced is in two hands, one of which is a thief's: the whole session
// ends. There is one exception, since honest clients do this too (two tabs that wake up at once, an answer that was lost
// on the way): within RefreshGrace of its first use, a token gets a fresh pair again. So a thief gains at most those
// seconds, in which stealing a token would have sufficed anyway. Of the tokens used before that only their absence is
// remembered: any token that names a living session but is not known to it counts as reused.
//
// A change of role, activity or password ends the user's sessions, with one exception: changing one's own password keeps
// the session that asked for it. API keys outlive a password, but act only while their user is active, and never with a
// role above the user's.
package account
