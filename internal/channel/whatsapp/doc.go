// Package whatsapp is the channel for a WhatsApp number that is linked like
// WhatsApp Web: by QR or pairing code, with go.mau.fi/whatsmeow.
//
// # What happens to a message that comes in
//
//	whatsmeow decrypts ─► its keys and the plaintext are committed (Config.Keys)
//	  ─► handler: convert ─► Host.Receive, committed ─► only now the receipt goes out
//
// Two things the library acknowledges before it hands them over: the phone's
// notices of parts of its history, and messages that cannot be decrypted, which it
// asks for again. Of both a note is committed before that (eventbuffer.go), and what
// is noted still when the next connection begins is done first. Three things are
// less than whole in that: the line for a message that cannot be decrypted has the
// time of the note then, and stands even for what the apps would hide, such as an
// edit; a notice that comes from a note is imported without telling the phone so;
// and messages of Meta's bots that cannot be decrypted are refused first.
//
// A crash between any two of these loses nothing: what was not acknowledged
// comes again, what was decrypted before is in the library's buffer, and what
// was stored before is recognised. A message that cannot be stored within a
// minute, or a database that fails during decryption, ends the connection
// without an acknowledgement: WhatsApp delivers again to the next one. One that
// fails so again and again, while the database writes, is left at last, and a line
// stands in its place (poison.go): the number would never get past it.
//
// # What happens to one that goes out
//
// Its id is stored with the claim, before anything leaves. A send whose outcome
// is not known is repeated under the same id, which WhatsApp recognises. What
// the contact's phone cannot decrypt it asks for again; the library answers
// from its own table of what was sent lately. Encrypting and decrypting take turns
// (ratchets.go): either would undo what the other does to a session's keys.
//
// # Who is who
//
// People have a phone number (PN) and a hidden id (LID). An address is the
// number's digits, "<digits>@lid", or "<digits>@g.us" for a group; a chat goes by
// the LID where it is known. Which number belongs to which LID is kept for each
// linked device alone (lids.go): one organization's knowledge of a hidden
// number is nobody else's. What is newly learned is told to the inbox, which
// merges contacts and chats.
//
// # Life of a session
//
//	no device: link (link.go) ──paired──┐
//	                                    ▼
//	device: connect ──► connected ──► ends: Down says why, the supervisor waits
//	           ▲            │               and opens a new session
//	           └────────────┘ one broken connection is mended at once
//
// Everything of a session ends with its context: connections are made under a
// context of their own, whose end keeps the library from acknowledging, and
// which ends with the lease. The library reconnects never by itself.
//
// The last session of a channel that is logged out or deleted ends the link, and
// nothing else (Config.Unlink, Config.Leaving).
package whatsapp
