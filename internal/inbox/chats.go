package inbox

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// The bounds of what operators write, in characters where nothing else is said.
const (
	maxTags     = 20
	maxTag      = 50
	maxSubject  = 300
	maxQuery    = 200
	minPhone    = 7 // digits
	maxPhone    = 15
	maxNameSize = 200
)

// Chats lists chats of the caller's organization, newest activity first.
func (s *Service) Chats(ctx context.Context, p domain.Principal, f store.ChatFilter) ([]store.ListedChat, error) {
	if f.Status != "" && !f.Status.Valid() {
		return nil, domain.Invalid("status", "A chat is open, pending or resolved.")
	}
	if utf8.RuneCountInString(f.Query) > maxQuery {
		return nil, domain.Invalid("q", fmt.Sprintf("Search for at most %d characters.", maxQuery))
	}
	return s.store.Chats(ctx, p.OrganizationID, f)
}

// Chat returns a chat of the caller's organization.
func (s *Service) Chat(ctx context.Context, p domain.Principal, id int64) (domain.Chat, error) {
	return s.store.Chat(ctx, p.OrganizationID, id)
}

// Messages reads a stretch of a chat, oldest first.
func (s *Service) Messages(ctx context.Context, p domain.Principal, f store.MessageFilter) ([]domain.Message, error) {
	if f.Before != 0 && f.After != 0 {
		return nil, domain.Invalid("after", "Give before or after, not both.")
	}
	return s.store.MessagesOf(ctx, p.OrganizationID, f)
}

// Message returns a message of the caller's organization.
func (s *Service) Message(ctx context.Context, p domain.Principal, id int64) (domain.Message, error) {
	return s.store.Message(ctx, p.OrganizationID, id)
}

// Events reads the log of the caller's organization behind after, at most limit events.
func (s *Service) Events(ctx context.Context, p domain.Principal, after int64, limit int) (domain.EventPage, error) {
	return s.store.EventsAfter(ctx, p.OrganizationID, after, limit)
}

// Assignment is a change of who takes care of something: absent (not Set), nobody (UserID nil) or a user.
type Assignment struct {
	Set    bool
	UserID *int64
}

// ChatChange is what an operator changes of a chat; nil fields stay.
type ChatChange struct {
	Status   *domain.ChatStatus
	Assignee Assignment
	Tags     *[]string
}

// UpdateChat changes a chat. The new assignee is notified, unless it is the caller. What is as wanted already makes no event.
func (s *Service) UpdateChat(ctx context.Context, p domain.Principal, id int64, change ChatChange) (domain.Chat, error) {
	if change.Status != nil && !change.Status.Valid() {
		return domain.Chat{}, domain.Invalid("status", "A chat is open, pending or resolved.")
	}
	var tags []string
	if change.Tags != nil {
		var err error
		if tags, err = cleanTags(*change.Tags); err != nil {
			return domain.Chat{}, err
		}
	}
	var chat domain.Chat
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		was, err := tx.LockChat(id)
		if err != nil {
			return err
		}
		chat = was
		if change.Status != nil {
			chat.Status = *change.Status
		}
		if change.Tags != nil {
			chat.Tags = tags
		}
		if change.Assignee.Set {
			chat.AssigneeID = change.Assignee.UserID
		}
		assigned := !equal(chat.AssigneeID, was.AssigneeID)
		if chat.Status == was.Status && slices.Equal(chat.Tags, was.Tags) && !assigned {
			return nil
		}
		if assigned {
			if err := checkAssignee(tx, chat.AssigneeID); err != nil {
				return err
			}
		}
		if err := tx.SaveChat(chat); err != nil {
			return err
		}
		chat.UpdatedAt = tx.Now()
		tx.ChatUpdated(chat)
		if !assigned {
			return nil
		}
		return notifyAssigned(tx, p, chat.AssigneeID, domain.Notification{
			Kind: domain.NotifyChatAssigned, Title: "A chat was assigned to you", Body: "The chat with " + contactName(chat.Contact), ChatID: &chat.ID,
		})
	})
	return chat, err
}

func equal(a, b *int64) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// checkAssignee refuses whoever is not an active user of the organization.
func checkAssignee(tx *store.Tx, userID *int64) error {
	if userID == nil {
		return nil
	}
	_, found, err := tx.ActiveUserName(*userID)
	if err == nil && !found {
		err = domain.Invalid("assigneeId", "There is no active user with this id in your organization.")
	}
	return err
}

// notifyAssigned tells a user that something is theirs now, unless they took it themselves.
func notifyAssigned(tx *store.Tx, p domain.Principal, userID *int64, n domain.Notification) error {
	if userID == nil || *userID == p.UserID {
		return nil
	}
	by, _, err := tx.ActiveUserName(p.UserID)
	if err != nil {
		return err
	}
	if by != "" {
		n.Body += ", by " + by
	}
	n, err = tx.InsertNotification(*userID, n)
	if err != nil {
		return err
	}
	tx.User(*userID, domain.EventUserNotification, n)
	return nil
}

func contactName(c domain.Contact) string {
	for _, name := range []string{c.Name, c.Username} {
		if name != "" {
			return name
		}
	}
	if c.Phone != "" {
		return "+" + c.Phone
	}
	return "a customer"
}

func cleanTags(given []string) ([]string, error) {
	tags := []string{}
	for _, tag := range given {
		tag = strings.TrimSpace(tag)
		if tag == "" || utf8.RuneCountInString(tag) > maxTag {
			return nil, domain.Invalid("tags", fmt.Sprintf("A tag has 1 to %d characters.", maxTag))
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) > maxTags {
		return nil, domain.Invalid("tags", fmt.Sprintf("A chat has at most %d tags.", maxTags))
	}
	return tags, nil
}

// DeleteChat removes a chat with its messages, tickets and notes for good. Its files' bytes go with the next SweepMedia.
func (s *Service) DeleteChat(ctx context.Context, p domain.Principal, id int64) error {
	return s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		if _, err := tx.LockChat(id); err != nil {
			return err
		}
		if err := tx.DeleteChat(id); err != nil {
			return err
		}
		tx.ChatDeleted(id)
		return nil
	})
}

// NewChat is with whom to start a chat: exactly one of Phone and Username is given.
type NewChat struct {
	ChannelID       int64
	Phone, Username string
}

// StartChat makes a chat with somebody who has not written yet. created is false when the chat is there already.
func (s *Service) StartChat(ctx context.Context, p domain.Principal, in NewChat) (chat domain.Chat, created bool, err error) {
	if (in.Phone == "") == (in.Username == "") {
		return chat, false, domain.Invalid("phone", "Give the customer's phone number or user name, one of the two.")
	}
	found, err := s.resolve(ctx, p, in)
	if err != nil {
		return chat, false, err
	}
	err = s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		created = false
		on, err := tx.StartingChannel(in.ChannelID)
		if err != nil {
			return err
		}
		peer, identities := found.Address, found.Identities
		if peer == "" {
			if peer, identities, err = s.addressOf(on.Kind, in); err != nil {
				return err
			}
		}
		contactID, _, err := tx.EnsureContact(identities, found.Name)
		if err != nil {
			return err
		}
		if found.Address != "" { // people have two addresses there, and one chat
			known, err := tx.ChatOfContact(in.ChannelID, contactID, peer)
			if err == nil && known != 0 {
				chat, err = tx.Chat(known)
			}
			if err != nil || known != 0 {
				return err
			}
		}
		id, made, err := tx.EnsureChat(store.NewChatInput{
			ChannelID: in.ChannelID, ChannelKind: on.Kind, Kind: domain.ChatDirect, Peer: peer, ContactID: contactID, ActivityAt: tx.Now(),
		})
		if err != nil {
			return err
		}
		if chat, err = tx.Chat(id); err != nil || !made {
			return err
		}
		created = true
		tx.NewChat(chat)
		return nil
	})
	return chat, created, err
}

// addressOf turns what an operator knows of somebody into an address on the channel's network.
func (s *Service) addressOf(kind domain.ChannelKind, in NewChat) (peer string, identities []domain.Identity, err error) {
	switch {
	case s.kinds[kind] == nil:
		return "", nil, unavailableKind(kind)
	case !channel.Of(kind).StartsChats:
		return "", nil, domain.NewError(domain.CodeUnsupported,
			"On this channel customers must write first: ask them to open the conversation, then answer.")
	case kind != domain.KindWABA:
		return "", nil, domain.NewError(domain.CodeUnsupported, "Chats cannot be started on this channel.")
	case in.Username != "":
		return "", nil, domain.Invalid("username", "WhatsApp knows people by phone number: give phone instead.")
	}
	phone, err := normalizePhone(in.Phone)
	return phone, []domain.Identity{{Kind: domain.IdentityPhone, Value: phone}}, err
}

// phoneForm is a number as people write it: what may stand between the digits.
var phoneForm = regexp.MustCompile(`^\+?[0-9][0-9 ().\-/\x{00A0}\x{2010}-\x{2015}]*$`)

func normalizePhone(given string) (string, error) {
	given = strings.TrimSpace(given)
	if rest, found := strings.CutPrefix(given, "("); found {
		given = rest
	}
	if !phoneForm.MatchString(given) {
		return "", domain.Invalid("phone", "This is not a phone number. Write it with its country code, for example +49 151 23456789.")
	}
	digits := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, given)
	if international, found := strings.CutPrefix(digits, "00"); found && !strings.HasPrefix(given, "+") {
		digits = international
	}
	switch {
	case strings.HasPrefix(digits, "0"):
		return "", domain.Invalid("phone", "The number begins with 0. Write it with its country code, for example +49 151 23456789.")
	case len(digits) < minPhone || len(digits) > maxPhone:
		return "", domain.Invalid("phone", fmt.Sprintf("A phone number with its country code has %d to %d digits; this one has %d.", minPhone, maxPhone, len(digits)))
	default:
		return digits, nil
	}
}
