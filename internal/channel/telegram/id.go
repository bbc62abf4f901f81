package telegram

import (
	"errors"
	"strconv"
	"strings"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"

	"switchboard/internal/domain"
)

// address is a chat's or sender's address: Telegram's number in decimal.
// Groups, channels and senders that are chats have negative ones.
func address(id int64) string { return strconv.FormatInt(id, 10) }

func parseAddress(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil || id == 0 {
		return 0, errors.New("the address is no number of a Telegram chat")
	}
	return id, nil
}

// externalID names a message. Telegram counts messages in every chat anew, and
// again when a group becomes a supergroup, so the chat is part of it.
func externalID(chat int64, message int) string {
	return strconv.FormatInt(chat, 10) + ":" + strconv.Itoa(message)
}

func parseExternalID(s string) (chat int64, message int, ok bool) {
	before, after, found := strings.Cut(s, ":")
	chat, errChat := strconv.ParseInt(before, 10, 64)
	message, errMessage := strconv.Atoi(after)
	return chat, message, found && errChat == nil && errMessage == nil && chat != 0 && message > 0
}

// person is the peer of a user.
func person(u *tgbotapi.User) domain.Peer {
	peer := domain.Peer{
		Address: address(u.ID), Kind: domain.ChatDirect, Name: fullName(u.FirstName, u.LastName, u.UserName),
		Identities: []domain.Identity{{Kind: domain.IdentityTelegram, Value: address(u.ID)}},
	}
	return withUsername(peer, u.UserName)
}

// peerOf is the chat as a peer.
func peerOf(c *tgbotapi.Chat) domain.Peer {
	if c.Type == "private" {
		return person(&tgbotapi.User{ID: c.ID, FirstName: c.FirstName, LastName: c.LastName, UserName: c.UserName})
	}
	peer := domain.Peer{
		Address: address(c.ID), Kind: domain.ChatGroup, Name: cut(clean(c.Title), maxName),
		Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: address(c.ID)}},
	}
	return withUsername(peer, c.UserName)
}

func withUsername(peer domain.Peer, username string) domain.Peer {
	if username = strings.ToLower(clean(username)); username != "" && len(username) <= maxUsername {
		peer.Identities = append(peer.Identities, domain.Identity{Kind: domain.IdentityUsername, Value: username})
	}
	return peer
}

// Bounds of what becomes a label or part of a key.
const (
	maxName     = 200 // characters
	maxUsername = 64  // bytes; Telegram's have at most 32
	maxFileID   = 512 // bytes
)

func fullName(first, last, username string) string {
	name := strings.TrimSpace(clean(first) + " " + clean(last))
	if name == "" && username != "" {
		name = "@" + clean(username)
	}
	return cut(name, maxName)
}

// clean makes text storable: PostgreSQL holds no NUL. (Invalid UTF-8 does not
// survive JSON.)
func clean(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

// cut shortens s to at most limit runes, for what is a label and not content.
func cut(s string, limit int) string {
	runes := 0
	for i := range s {
		if runes == limit-1 && len([]rune(s[i:])) > 1 {
			return s[:i] + "…"
		}
		runes++
	}
	return s
}
