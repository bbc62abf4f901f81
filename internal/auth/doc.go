// Package auth proves who is calling and keeps secrets secret: passwords, access tokens, refresh tokens, API keys, login
// throttling, signed media links, and the sealing of channel credentials at rest.
//
// It holds no state but the throttle's. Accounts, sessions and keys are rows of the store; this package makes and checks
// the values in them. Refresh tokens and API keys are random, so that a plain SHA-256 of them is as good as a slow hash
// and can be looked up by; passwords are not, hence Argon2id.
//
// Keys: JWT_SECRET signs access tokens as it is; every other use of it goes through HKDF with a label of its own, so
// that nothing signed for one purpose passes for another. ENCRYPTION_KEY seals credentials and nothing else.
package auth
