package inbox

import (
	"context"
	"strings"
	"unicode/utf8"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// SendInput is a message that an operator wants to send.
type SendInput struct {
	ChatID    int64
	Type      domain.MessageType // empty: what the other fields suggest
	Content   string
	MediaID   *int64
	Location  *domain.Location
	ReplyToID *int64
	Template  *domain.Template
	Priority  domain.MessagePriority // empty: normal
	// ClientMessageID makes the call repeatable: the same id again returns the
	// first call's message.
	ClientMessageID string
}

// The longest texts that providers take, in characters.
const (
	maxText        = 4096
	maxCaption     = 1024
	maxContent     = 65536
	maxClientID    = 128
	maxEmoji       = 64 // bytes: the longest emoji sequences have about 40
	reasonCanceled = "canceled"
)

// Send puts a message into the outbox: it is committed with its events before
// it leaves. created is false when the client's id was seen before.
func (s *Service) Send(ctx context.Context, p domain.Principal, in SendInput) (message domain.Message, created bool, err error) {
	if err := in.normalize(); err != nil {
		return message, false, err
	}
	var channelID int64
	err = s.write(ctx, p.OrganizationID, func(tx *store.Tx) error {
		created = false
		if in.ClientMessageID != "" {
			var seen bool
			if message, seen, err = earlier(tx, in); err != nil || seen {
				return err
			}
		}
		destination, err := tx.Destination(in.ChatID, p.UserID)
		if err != nil {
			return err
		}
		if err := in.allowed(tx, destination); err != nil {
			return err
		}
		channelID = destination.ChannelID
		message, created, err = s.enqueue(tx, p, in, destination)
		return err
	})
	if err == nil && created {
		s.waker.Wake(channelID)
	}
	return message, created, err
}

// earlier finds the message of a repeated call.
func earlier(tx *store.Tx, in SendInput) (domain.Message, bool, error) {
	id, chatID, err := tx.ByClientID(in.ClientMessageID)
	if err != nil || id == 0 {
		return domain.Message{}, false, err
	}
	if chatID != in.ChatID {
		return domain.Message{}, false, &domain.Error{
			Code: domain.CodeConflict, Field: "clientMessageId",
			Message: "This clientMessageId was used for a message in another chat. Make a new id for every message.",
		}
	}
	message, err := tx.Message(id)
	return message, true, err
}

func (s *Service) enqueue(tx *store.Tx, p domain.Principal, in SendInput, to store.Destination) (domain.Message, bool, error) {
	row := store.NewMessageInput{
		ChatID: to.ChatID, ChannelID: to.ChannelID, ChannelKind: to.ChannelKind, Type: in.Type, Content: in.Content, MediaID: in.MediaID,
		Location: in.Location, Template: in.Template, ReplyToID: in.ReplyToID, FromMe: true, SenderKey: store.SenderMe,
		SenderName: to.UserName, Status: domain.StatusQueued, Priority: in.Priority, ClientMessageID: in.ClientMessageID, ProviderTime: tx.Now(),
	}
	if p.UserID != 0 {
		row.SenderUserID = &p.UserID
	}
	id, _, err := tx.InsertMessage(row)
	if err != nil {
		return domain.Message{}, false, err
	}
	if id == 0 { // the same client's id was committed a moment ago
		message, _, err := earlier(tx, in)
		return message, false, err
	}
	message, err := tx.Complete(id, row)
	if err != nil {
		return message, false, err
	}
	chat, err := tx.Touch(store.Activity{
		ChatID: to.ChatID, MessageID: id, Content: in.Content, Type: in.Type, FromMe: true, KeepUnread: true,
		ProviderTime: tx.Now(),
	})
	if err != nil {
		return message, false, err
	}
	tx.NewMessage(message)
	tx.ChatUpdated(chat)
	return message, true, nil
}

// normalize settles the type and checks what can be checked without the
// database.
func (in *SendInput) normalize() error {
	if in.Type == "" {
		switch {
		case in.Template != nil:
			in.Type = domain.TypeTemplate
		case in.Location != nil:
			in.Type = domain.TypeLocation
		case in.MediaID != nil:
			in.Type = "" // the file's own type decides
		default:
			in.Type = domain.TypeText
		}
	}
	if !utf8.ValidString(in.Content) || strings.ContainsRune(in.Content, 0) {
		return domain.Invalid("content", "The text must be valid UTF-8 without NUL characters.")
	}
	if utf8.RuneCountInString(in.Content) > maxContent {
		return domain.Errorf(domain.CodeInvalid, "The text is longer than %d characters.", maxContent)
	}
	if len(in.ClientMessageID) > maxClientID {
		return domain.Invalid("clientMessageId", "It may be at most 128 bytes long.")
	}
	switch in.Priority {
	case "", domain.MessageNormal, domain.MessageBulk:
	default:
		return domain.Invalid("priority", "A message's priority is normal or bulk.")
	}
	switch in.Type {
	case domain.TypeText:
		if strings.TrimSpace(in.Content) == "" {
			return domain.Invalid("content", "A text message needs a text.")
		}
	case domain.TypeLocation:
		if in.Location == nil {
			return domain.Invalid("location", "A location message needs a location.")
		}
	case domain.TypeTemplate:
		if in.Template == nil {
			return domain.Invalid("template", "A template message needs a template.")
		}
	case "", domain.TypeImage, domain.TypeVideo, domain.TypeAudio, domain.TypeVoice, domain.TypeDocument, domain.TypeSticker:
		if in.MediaID == nil {
			return domain.Invalid("mediaId", "A message of this type needs a file: upload it to /api/media first.")
		}
	default:
		return domain.Invalid("type", "Messages of this type cannot be sent.")
	}
	return in.onlyWhatFits()
}

// onlyWhatFits refuses fields that the type would silently drop.
func (in *SendInput) onlyWhatFits() error {
	if in.Location != nil && in.Type != domain.TypeLocation {
		return domain.Invalid("location", "Only a message of type location has a location.")
	}
	if in.Template != nil && in.Type != domain.TypeTemplate {
		return domain.Invalid("template", "Only a message of type template has a template.")
	}
	if in.MediaID != nil && in.Type != "" && !in.Type.HasMedia() {
		return domain.Invalid("mediaId", "A message of this type has no file.")
	}
	return nil
}

// allowed checks what the channel, its provider and the stored file say.
func (in *SendInput) allowed(tx *store.Tx, to store.Destination) error {
	if err := reachable(to); err != nil {
		return err
	}
	can := channel.Of(to.ChannelKind)
	if in.Type == domain.TypeTemplate && !can.Templates {
		return domain.NewError(domain.CodeUnsupported, "This channel has no templates.")
	}
	if in.Type != domain.TypeTemplate {
		if err := windowOpen(to, tx.Now()); err != nil {
			return err
		}
	}
	if in.ReplyToID != nil {
		quoted, err := tx.LockMessage(*in.ReplyToID)
		if domain.CodeOf(err) == domain.CodeNotFound || err == nil && quoted.ChatID != to.ChatID {
			return domain.Invalid("replyToId", "There is no such message in this chat.")
		}
		if err != nil {
			return err
		}
	}
	if in.MediaID != nil {
		if err := in.fitMedia(tx); err != nil {
			return err
		}
	}
	return in.fits()
}

// fitMedia settles the type by the file where the caller left it open.
func (in *SendInput) fitMedia(tx *store.Tx) error {
	file, err := tx.UsableMedia(*in.MediaID)
	if domain.CodeOf(err) == domain.CodeNotFound {
		return domain.Invalid("mediaId", "There is no such file in your organization.")
	}
	if err != nil {
		return err
	}
	if file.State != domain.MediaReady {
		return domain.Invalid("mediaId", "This file is not ready.")
	}
	natural := typeOfFile(file.MIME)
	switch {
	case in.Type == "":
		in.Type = natural
	case in.Type == domain.TypeDocument, in.Type == natural,
		in.Type == domain.TypeVoice && natural == domain.TypeAudio,
		in.Type == domain.TypeSticker && file.MIME == "image/webp":
	default:
		return domain.Errorf(domain.CodeInvalid, "A file of type %s cannot be sent as %s.", file.MIME, in.Type)
	}
	return nil
}

func typeOfFile(mime string) domain.MessageType {
	family, _, _ := strings.Cut(mime, "/")
	switch family {
	case "image":
		return domain.TypeImage
	case "video":
		return domain.TypeVideo
	case "audio":
		return domain.TypeAudio
	default:
		return domain.TypeDocument
	}
}

func (in *SendInput) fits() error {
	length := utf8.RuneCountInString(in.Content)
	switch {
	case in.Type == domain.TypeText && length > maxText:
		return domain.Invalid("content", "The text is longer than the 4096 characters that the network takes.")
	case in.Type.HasMedia() && length > maxCaption:
		return domain.Invalid("content", "The caption is longer than the 1024 characters that the network takes.")
	default:
		return nil
	}
}

// windowOpen says why nothing but templates can be sent, if so.
func windowOpen(to store.Destination, now domain.Time) error {
	switch {
	case !channel.Of(to.ChannelKind).Window:
		return nil
	case to.LastInboundAt == 0:
		return domain.NewError(domain.CodeWindowClosed, "The customer has not written yet; until they do only templates can be sent.")
	case to.LastInboundAt.Add(domain.CustomerServiceWindow) <= now:
		return domain.NewError(domain.CodeWindowClosed, "The customer last wrote more than 24 hours ago; until they write again only templates can be sent.")
	default:
		return nil
	}
}

func reachable(to store.Destination) error {
	if to.ChannelDeleted {
		return domain.NewError(domain.CodeConflict, "The channel of this chat was deleted; nothing can be sent in it any more.")
	}
	if !to.ChannelEnabled {
		return domain.NewError(domain.CodeConflict, "The channel of this chat is disconnected. Connect it, then send again.")
	}
	return nil
}
