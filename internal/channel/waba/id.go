package waba

import (
	"regexp"
	"strconv"
	"strings"

	"switchboard/internal/domain"
)

// Bounds of what becomes part of a key in the database, in bytes. An index row
// of PostgreSQL holds at most 2,704.
const (
	maxExternalID = 512
	maxAddress    = 256
)

const (
	markPrefix        = "sb:"
	commandMarkPrefix = "sbc:"
)

// Mark is what a message carries in biz_opaque_callback_data; Meta repeats it in
// every status of the message.
func Mark(messageID int64, attempt int) string {
	return markPrefix + strconv.FormatInt(messageID, 10) + ":" + strconv.Itoa(attempt)
}

// ParseMark reads a Mark back. ok is false for what is not one of ours.
func ParseMark(mark string) (messageID int64, attempt int, ok bool) {
	rest, found := strings.CutPrefix(mark, markPrefix)
	if !found {
		return 0, 0, false
	}
	id, tries, found := strings.Cut(rest, ":")
	if !found || !isDigits(id) || !isDigits(tries) {
		return 0, 0, false
	}
	messageID, err := strconv.ParseInt(id, 10, 64)
	if err != nil || messageID < 1 {
		return 0, 0, false
	}
	attempt, err = strconv.Atoi(tries)
	if err != nil || attempt < 1 {
		return 0, 0, false
	}
	return messageID, attempt, true
}

// commandMark marks reactions: they are messages to Meta and get statuses, but
// no rows of ours.
func commandMark(commandID int64) string {
	return commandMarkPrefix + strconv.FormatInt(commandID, 10)
}

func isCommandMark(mark string) bool { return strings.HasPrefix(mark, commandMarkPrefix) }

// bsuid is two letters of a country, perhaps ENT (a parent business's), and up
// to 128 letters and digits.
var bsuid = regexp.MustCompile(`^[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}$`)

// PeerOfPhone is the peer of a phone number as people write it, for a chat that
// we begin. The error is a *domain.Error for the field "phone".
func PeerOfPhone(phone string) (domain.Peer, error) {
	digits := strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9':
			return r
		case strings.ContainsRune("+ -().\u00a0", r):
			return -1
		default:
			return 'x'
		}
	}, strings.TrimSpace(phone))
	if !isDigits(digits) || len(digits) < 7 || len(digits) > 15 || digits[0] == '0' {
		return domain.Peer{}, domain.Invalid("phone",
			"The phone number must be in international form: country code and number, 7 to 15 digits, for example +15550783881.")
	}
	return person(digits, "", ""), nil
}

// person is the peer of a customer by phone digits, business-scoped id or both;
// the number is the address wherever it is known, since Meta delivers to it
// under either name and tells the number only to those who use it.
func person(phone, userID, name string) domain.Peer {
	peer := domain.Peer{Address: phone, Kind: domain.ChatDirect, Name: name}
	if phone == "" {
		peer.Address = userID
	}
	if isDigits(phone) {
		peer.Identities = append(peer.Identities, domain.Identity{Kind: domain.IdentityPhone, Value: phone})
	}
	if userID != "" {
		peer.Identities = append(peer.Identities, domain.Identity{Kind: domain.IdentityBSUID, Value: userID})
	}
	return peer
}

func group(id string) domain.Peer {
	return domain.Peer{
		Address: id, Kind: domain.ChatGroup,
		Identities: []domain.Identity{{Kind: domain.IdentityGroup, Value: id}},
	}
}

// recipient is how a send names its peer. Meta accepts a business-scoped id in
// "to" as well, answers 200, and delivers nothing; hence the distinction.
type recipient struct {
	Type      string `json:"recipient_type"`
	To        string `json:"to,omitempty"`
	Recipient string `json:"recipient,omitempty"`
}

func recipientOf(address string) recipient {
	switch {
	case isDigits(address):
		return recipient{Type: "individual", To: address}
	case bsuid.MatchString(address):
		return recipient{Type: "individual", Recipient: address}
	default:
		return recipient{Type: "group", To: address}
	}
}
