package inbox

import (
	"context"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// act runs fn on a message of the caller's organization, and wakes the
// channel's worker.
func (s *Service) act(ctx context.Context, p domain.Principal, messageID int64, fn func(*store.Tx, store.Own) error) (domain.Message, error) {
	var (
		message   domain.Message
		channelID int64
	)
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		own, err := tx.LockMessage(messageID)
		if err != nil {
			return err
		}
		channelID = own.ChannelID
		if err := fn(tx, own); err != nil {
			return err
		}
		message, err = tx.Message(messageID)
		if err != nil {
			return err
		}
		tx.Broadcast(domain.EventMessageUpdated, message)
		return nil
	})
	if err == nil {
		s.waker.Wake(channelID)
	}
	return message, err
}

// Retry sends a message again that failed, or whose fate is not known. That is
// an operator's decision: an unknown one may have arrived.
func (s *Service) Retry(ctx context.Context, p domain.Principal, messageID int64) (domain.Message, error) {
	return s.act(ctx, p, messageID, func(tx *store.Tx, own store.Own) error {
		if !own.FromMe || own.Revoked || own.Status != domain.StatusFailed && own.Status != domain.StatusUnknown {
			return domain.NewError(domain.CodeConflict, "Only a message of yours that failed, or whose fate is not known, can be sent again.")
		}
		to, err := tx.Destination(own.ChatID, p.UserID)
		if err != nil {
			return err
		}
		if err := reachable(to); err != nil {
			return err
		}
		if own.Type != domain.TypeTemplate {
			if err := windowOpen(to, tx.Now()); err != nil {
				return err
			}
		}
		return tx.Requeue(messageID, channel.Of(own.ChannelKind).Resends)
	})
}

// React puts the organization's reaction on a message; an empty emoji takes it
// away.
func (s *Service) React(ctx context.Context, p domain.Principal, messageID int64, emoji string) (domain.Message, error) {
	if emoji != "" && !isEmoji(emoji) {
		return domain.Message{}, domain.Invalid("emoji", "One emoji is wanted, or nothing to take the reaction away.")
	}
	return s.act(ctx, p, messageID, func(tx *store.Tx, own store.Own) error {
		if !channel.Of(own.ChannelKind).Reactions {
			return domain.NewError(domain.CodeUnsupported, "This channel has no reactions.")
		}
		if own.Revoked {
			return domain.NewError(domain.CodeConflict, "The message was taken back.")
		}
		to, err := tx.Destination(own.ChatID, p.UserID)
		if err != nil {
			return err
		}
		if err := reachable(to); err != nil {
			return err
		}
		if err := windowOpen(to, tx.Now()); err != nil {
			return err
		}
		if err := tx.EnqueueChange(command(own, domain.CommandReaction, emoji)); err != nil {
			return err
		}
		_, err = tx.SetReaction(messageID, store.SenderMe, to.UserName, true, emoji, tx.Now())
		return err
	})
}

// isEmoji reports whether text is one emoji as a keyboard sends it: one grapheme
// cluster that starts as an emoji and holds nothing else.
func isEmoji(text string) bool {
	if len(text) > maxEmoji || !utf8.ValidString(text) || uniseg.GraphemeClusterCount(text) != 1 {
		return false
	}
	runes := []rune(text)
	switch first := runes[0]; {
	case isRegional(first): // a flag is two of them
		return len(runes) == 2 && isRegional(runes[1])
	case first >= '0' && first <= '9' || first == '#' || first == '*':
		return text[1:] == string(keycap) || text[1:] == string(emojiStyle)+string(keycap)
	case !isPictograph(first):
		return false
	}
	for _, r := range runes[1:] {
		if !isPictograph(r) && !isEmojiModifier(r) {
			return false
		}
	}
	return runes[len(runes)-1] != joiner
}

const (
	joiner     = '\u200D' // makes one emoji of several, such as a family
	keycap     = '\u20E3'
	textStyle  = '\uFE0E'
	emojiStyle = '\uFE0F'
)

func isRegional(r rune) bool { return r >= 0x1F1E6 && r <= 0x1F1FF }

// isPictograph reports whether r has Unicode's property Extended_Pictographic. That is what its rule GB11 asks for on
// both sides of a joiner, so the segmentation itself knows, for the Unicode version it was made for.
func isPictograph(r rune) bool {
	return uniseg.GraphemeClusterCount(string(r)+string(joiner)+"❤") == 1
}

// isEmojiModifier reports whether r changes the emoji before it: its style, the skin's tone, or the region of a flag.
func isEmojiModifier(r rune) bool {
	return r == joiner || r == textStyle || r == emojiStyle || r >= 0x1F3FB && r <= 0x1F3FF || r >= 0xE0020 && r <= 0xE007F
}

// Edit replaces the text of one of the organization's own messages.
func (s *Service) Edit(ctx context.Context, p domain.Principal, messageID int64, content string) (domain.Message, error) {
	edit := SendInput{Type: domain.TypeText, Content: content}
	if err := edit.normalize(); err != nil {
		return domain.Message{}, err
	}
	return s.act(ctx, p, messageID, func(tx *store.Tx, own store.Own) error {
		can := channel.Of(own.ChannelKind)
		if err := s.changeable(tx, p, own, change{can.Edits, can.EditWithin, "edited"}); err != nil {
			return err
		}
		if own.Type != domain.TypeText && !slices.Contains(can.Captions, own.Type) {
			return domain.NewError(domain.CodeConflict, "On this channel only texts and captions can be edited, and a file of this kind has none.")
		}
		edit.Type = own.Type
		if err := edit.fits(); err != nil {
			return err
		}
		if err := tx.EnqueueChange(command(own, domain.CommandEdit, content)); err != nil {
			return err
		}
		if _, err := tx.EditMessage(messageID, content, tx.Now()); err != nil {
			return err
		}
		return refreshChat(tx, own)
	})
}

// Revoke takes one of the organization's own messages back: out of the outbox
// while it is there, from the customer's phone where the channel can.
func (s *Service) Revoke(ctx context.Context, p domain.Principal, messageID int64) (domain.Message, error) {
	return s.act(ctx, p, messageID, func(tx *store.Tx, own store.Own) error {
		if own.FromMe && own.Status == domain.StatusQueued && !own.Revoked {
			if err := tx.Cancel(messageID, domain.SendError{Code: reasonCanceled, Message: "It was taken back before it was sent."}); err != nil {
				return err
			}
			return refreshChat(tx, own)
		}
		can := channel.Of(own.ChannelKind)
		if err := s.changeable(tx, p, own, change{can.Revokes, can.RevokeWithin, "taken back"}); err != nil {
			return err
		}
		if err := tx.EnqueueChange(command(own, domain.CommandRevoke, "")); err != nil {
			return err
		}
		if _, err := tx.HideMessage(messageID, tx.Now()); err != nil {
			return err
		}
		return refreshChat(tx, own)
	})
}

// change is what somebody wants to do to a message that was sent.
type change struct {
	can    bool
	within time.Duration // after the send; 0: always
	what   string        // is done to it
}

// changeable says why a sent message cannot be edited or revoked.
func (s *Service) changeable(tx *store.Tx, p domain.Principal, own store.Own, c change) error {
	switch {
	case !own.FromMe:
		return domain.Errorf(domain.CodeConflict, "Only your own messages can be %s.", c.what)
	case own.Revoked:
		return domain.NewError(domain.CodeConflict, "The message was taken back.")
	case !c.can:
		return domain.Errorf(domain.CodeUnsupported, "On this channel a message that was sent cannot be %s.", c.what)
	case own.Status == domain.StatusQueued || own.Status == domain.StatusSending:
		return domain.NewError(domain.CodeConflict, "The message is just being sent; try again in a moment.")
	case own.Status == domain.StatusFailed:
		return domain.NewError(domain.CodeConflict, "The message was not sent.")
	case c.within > 0 && tx.Now() > own.At.Add(c.within):
		return domain.Errorf(domain.CodeConflict, "On this channel a message can be %s for %s after it was sent; the customer would not see it any more.",
			c.what, inWords(c.within))
	}
	to, err := tx.Destination(own.ChatID, p.UserID)
	if err != nil {
		return err
	}
	return reachable(to)
}

func inWords(d time.Duration) string {
	if d < time.Hour {
		return strconv.Itoa(int(d/time.Minute)) + " minutes"
	}
	return strconv.Itoa(int(d/time.Hour)) + " hours"
}

func refreshChat(tx *store.Tx, own store.Own) error {
	chat, changed, err := tx.RefreshLast(own.ChatID, own.ID)
	if err == nil && changed {
		tx.ChatUpdated(chat)
	}
	return err
}

func command(own store.Own, kind domain.CommandKind, value string) domain.Command {
	return domain.Command{ChannelID: own.ChannelID, ChatID: own.ChatID, MessageID: own.ID, Kind: kind, Value: value}
}

// MarkRead marks a chat's messages as read, up to one of them or (nil) all,
// and tells the customer's app. A chat that is read already stays untouched.
func (s *Service) MarkRead(ctx context.Context, p domain.Principal, chatID int64, upToID *int64) (domain.Chat, error) {
	var (
		reading store.Reading
		upTo    int64
	)
	if upToID != nil {
		upTo = *upToID
	}
	err := s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		var err error
		reading, err = tx.MarkRead(chatID, upTo)
		if err != nil || !reading.Changed {
			return err
		}
		tx.MessagesRead(domain.MessagesRead{ChatID: chatID, ReadByUserID: p.UserID, UpToMessageID: reading.UpToID})
		tx.ChatUpdated(reading.Chat)
		if reading.InboundID == 0 || reading.Messages == 0 {
			return nil // imports are not told of: the customer may have seen them read long ago, or not
		}
		return tx.EnqueueCommand(domain.Command{
			ChannelID: reading.ChannelID, ChatID: chatID, MessageID: reading.InboundID, Kind: domain.CommandRead, Value: strconv.Itoa(reading.Messages),
		})
	})
	if err == nil && reading.Changed {
		s.waker.Wake(reading.ChannelID)
	}
	return reading.Chat, err
}
