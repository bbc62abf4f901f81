// Package waba connects Switchboard with Meta's WhatsApp Business Cloud API.
//
// It has two halves that share nothing but the wire format:
//
//   - Inbound is pure: VerifySignature, PhoneNumberIDs and Parse turn the raw
//     bytes of a webhook into domain.Inbound values. The API node calls them;
//     no session is needed, so messages arrive while no worker runs.
//   - Outbound is a Session, made by NewFactory and run by the worker that holds
//     the channel's lease. It checks the credentials, sends, fetches files, and
//     receives nothing: Host.Receive is never called.
//
// # Who may speak for a number
//
// A webhook is signed with the app's secret, and every organization brings its
// own app. So a valid signature proves only that the body comes from the app
// of that one channel: whoever owns it could name any phone number in it. Take
// from a Delivery only what Delivery.Of gives for the channel whose secret
// verified, and look a status's message up within that channel only.
//
// # What is known of a send
//
// The Cloud API has no idempotency key, so Session.Send distinguishes what
// certainly did not happen (channel.NotSent), what Meta refused
// (channel.Refused) and what may have happened (channel.Unknown):
//
//	no connection, or it broke before the request's headers left   NotSent
//	HTTP 429 and Meta's rate limit codes, a bad token               NotSent
//	a definite code of Meta's, any other 4xx                        Refused
//	5xx, "unknown error" codes, no answer, an answer cut short,
//	200 without a message id                                        Unknown
//
// Every message carries a mark in biz_opaque_callback_data, which Meta repeats
// in its statuses: a send of unknown outcome is resolved by the first one.
package waba
