package waba

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

// Meta's limits of text, in characters.
const (
	maxText    = 4096
	maxCaption = 1024
)

// outgoing is the body of POST /{phone-number-id}/messages.
type outgoing struct {
	Product string `json:"messaging_product"`
	recipient

	Type    string        `json:"type"`
	Mark    string        `json:"biz_opaque_callback_data,omitempty"`
	Context *replyContext `json:"context,omitempty"`

	Text     *outText     `json:"text,omitempty"`
	Image    *outMedia    `json:"image,omitempty"`
	Video    *outMedia    `json:"video,omitempty"`
	Audio    *outMedia    `json:"audio,omitempty"`
	Document *outMedia    `json:"document,omitempty"`
	Sticker  *outMedia    `json:"sticker,omitempty"`
	Location *outLocation `json:"location,omitempty"`
	Template *outTemplate `json:"template,omitempty"`
	Reaction *outReaction `json:"reaction,omitempty"`

	// reused says that the file was given to Meta for an earlier message.
	reused bool
}

type replyContext struct {
	MessageID string `json:"message_id"`
}

type outText struct {
	Body       string `json:"body"`
	PreviewURL bool   `json:"preview_url,omitempty"`
}

type outMedia struct {
	ID       string `json:"id"`
	Caption  string `json:"caption,omitempty"`
	Filename string `json:"filename,omitempty"`
	Voice    bool   `json:"voice,omitempty"`
}

type outLocation struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Name      string  `json:"name,omitempty"`
	Address   string  `json:"address,omitempty"`
}

type outTemplate struct {
	Name       string         `json:"name"`
	Language   outLanguage    `json:"language"`
	Components []outComponent `json:"components,omitempty"`
}

type outLanguage struct {
	Code string `json:"code"`
}

type outComponent struct {
	Type       string         `json:"type"`
	Parameters []outParameter `json:"parameters"`
}

type outParameter struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type outReaction struct {
	MessageID string `json:"message_id"`
	Emoji     string `json:"emoji"` // empty: taken away
}

// receipt is the body that marks a message read, with or without typing.
type receipt struct {
	Product   string         `json:"messaging_product"`
	Status    string         `json:"status"`
	MessageID string         `json:"message_id"`
	Typing    *outTypingKind `json:"typing_indicator,omitempty"`
}

type outTypingKind struct {
	Type string `json:"type"`
}

// accepted is the answer to a message.
type accepted struct {
	Messages []struct {
		ID string `json:"id"`
	} `json:"messages"`
}

// Send hands one message to Meta. See the package comment for what its errors
// tell. A file is given to Meta first; that alone sends nothing.
func (s *Session) Send(ctx context.Context, message domain.Outbound) (channel.Sent, error) {
	body := outgoing{
		Product: "whatsapp", recipient: recipientOf(message.Peer), Type: string(message.Message.Type),
		Mark: Mark(message.Message.ID, message.Attempt),
	}
	if message.ReplyToExternalID != "" {
		body.Context = &replyContext{MessageID: message.ReplyToExternalID}
	}
	if err := s.fill(ctx, &body, message.Message); err != nil {
		return channel.Sent{}, err
	}
	id, err := s.post(ctx, message.Message.ChatID, body)
	if e := new(channel.SendError); body.reused && errors.As(err, &e) && e.Outcome == channel.Refused {
		// Perhaps Meta dropped the file that we thought it had. Nothing was
		// accepted, so once more with the file itself is safe.
		s.uploads.forget(message.Message.Media.ID)
		if err := s.fill(ctx, &body, message.Message); err != nil {
			return channel.Sent{}, err
		}
		id, err = s.post(ctx, message.Message.ChatID, body)
	}
	if err != nil {
		return channel.Sent{}, err
	}
	return channel.Sent{ExternalID: id}, nil
}

// fill adds the content.
func (s *Session) fill(ctx context.Context, body *outgoing, m domain.Message) error {
	switch m.Type {
	case domain.TypeText:
		if err := checkLength("A message", m.Content, maxText); err != nil {
			return err
		}
		body.Text = &outText{Body: m.Content, PreviewURL: strings.Contains(m.Content, "https://") || strings.Contains(m.Content, "http://")}
		return nil
	case domain.TypeLocation:
		return body.setLocation(m)
	case domain.TypeTemplate:
		return body.setTemplate(m)
	case domain.TypeImage, domain.TypeVideo, domain.TypeAudio, domain.TypeVoice, domain.TypeDocument, domain.TypeSticker:
		return s.setMedia(ctx, body, m)
	case domain.TypeContact, domain.TypeSystem, domain.TypeUnsupported:
	}
	return refusal(codeUnsupported, fmt.Sprintf("A message of type %q cannot be sent over the WhatsApp Business API.", m.Type))
}

func checkLength(what, text string, limit int) error {
	switch {
	case text == "" && limit == maxText:
		return refusal(codeUnsupported, "A message without text cannot be sent.")
	case utf8.RuneCountInString(text) > limit:
		return refusal(codeTooLong, fmt.Sprintf("%s may have at most %d characters on WhatsApp. Send it in parts.", what, limit))
	}
	return nil
}

func (o *outgoing) setLocation(m domain.Message) error {
	if m.Location == nil {
		return refusal(codeUnsupported, "The message has no location to send.")
	}
	o.Location = &outLocation{
		Latitude: m.Location.Latitude, Longitude: m.Location.Longitude,
		Name: m.Location.Name, Address: m.Location.Address,
	}
	return nil
}

func (o *outgoing) setTemplate(m domain.Message) error {
	if m.Template == nil {
		return refusal(codeUnsupported, "The message has no template to send.")
	}
	o.Template = &outTemplate{Name: m.Template.Name, Language: outLanguage{Code: m.Template.Language}}
	if len(m.Template.Parameters) == 0 {
		return nil
	}
	parameters := make([]outParameter, len(m.Template.Parameters))
	for i, text := range m.Template.Parameters {
		parameters[i] = outParameter{Type: "text", Text: text}
	}
	o.Template.Components = []outComponent{{Type: "body", Parameters: parameters}}
	return nil
}

// setMedia checks what can be checked without the network, then brings the
// file to Meta.
func (s *Session) setMedia(ctx context.Context, body *outgoing, m domain.Message) error {
	if m.Media == nil {
		return refusal(codeUnsupported, "The message has no file to send.")
	}
	caption := m.Type == domain.TypeImage || m.Type == domain.TypeVideo || m.Type == domain.TypeDocument
	if m.Content != "" && !caption {
		return refusal(codeUnsupported, "WhatsApp shows no text under this kind of file. Send the text as a message of its own.")
	}
	if err := checkLength("The text under a file", m.Content, maxCaption); err != nil {
		return err
	}
	if limit := mediaLimits[m.Type]; m.Media.Size > limit {
		return refusal(codeTooLarge, fmt.Sprintf("WhatsApp takes a file of this kind up to %d KB; this one has %d KB.", limit>>10, m.Media.Size>>10))
	}
	handle, reused := s.uploads.get(m.Media.ID)
	if body.reused = reused; !reused {
		var err error
		if handle, err = s.upload(ctx, *m.Media); err != nil {
			return err
		}
	}
	media := &outMedia{ID: handle, Caption: m.Content}
	switch m.Type {
	case domain.TypeImage:
		body.Image = media
	case domain.TypeVideo:
		body.Video = media
	case domain.TypeSticker:
		body.Sticker = media
	case domain.TypeDocument:
		media.Filename = m.Media.Filename
		body.Document = media
	default:
		media.Voice = m.Type == domain.TypeVoice
		body.Audio, body.Type = media, "audio"
	}
	return nil
}

// post sends a message to a chat and returns Meta's id of it.
func (s *Session) post(ctx context.Context, chatID int64, body outgoing) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	in, err := jsonCall(s.number+"/messages", body)
	if err != nil {
		return "", &channel.SendError{Outcome: channel.Refused, Code: codeUnsupported, Message: "The message cannot be written as WhatsApp wants it.", Cause: err}
	}
	var answer accepted
	if err = s.client.do(ctx, in, &answer); err == nil && (len(answer.Messages) == 0 || answer.Messages[0].ID == "") {
		err = &transportError{written: true, cause: errors.New("the answer has no message id")}
	}
	if err != nil {
		return "", s.noted(chatID, outcome(err, false))
	}
	s.pace.Accepted(time.Now(), chatID)
	return answer.Messages[0].ID, nil
}

// Do carries out a command: read receipts and reactions. The Cloud API can
// neither edit nor take back a message.
func (s *Session) Do(ctx context.Context, command domain.Command) error {
	switch command.Kind {
	case domain.CommandRead:
		return s.receipt(ctx, command.TargetExternalID, false)
	case domain.CommandReaction:
		_, err := s.post(ctx, command.ChatID, outgoing{
			Product: "whatsapp", recipient: recipientOf(command.Peer), Type: "reaction", Mark: commandMark(command.ID),
			Reaction: &outReaction{MessageID: command.TargetExternalID, Emoji: command.Value},
		})
		return err
	case domain.CommandEdit:
		return refusal(codeUnsupported, "The WhatsApp Business API cannot edit a message that was sent.")
	case domain.CommandRevoke:
		return refusal(codeUnsupported, "The WhatsApp Business API cannot take back a message that was sent.")
	default:
		return refusal(codeUnsupported, fmt.Sprintf("The WhatsApp Business API has no action %q.", command.Kind))
	}
}

// Typing shows the customer for 25 seconds, or until the answer, that somebody
// writes. Meta ties it to the customer's newest message, which counts as read
// thereby; there is no way to end it early, and none without such a message.
func (s *Session) Typing(ctx context.Context, _, lastExternalID string, on bool) error {
	if !on || lastExternalID == "" {
		return nil
	}
	return s.receipt(ctx, lastExternalID, true)
}

// receipt marks a customer's message, and all before it, read.
func (s *Session) receipt(ctx context.Context, externalID string, typing bool) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body := receipt{Product: "whatsapp", Status: "read", MessageID: externalID}
	if typing {
		body.Typing = &outTypingKind{Type: "text"}
	}
	in, err := jsonCall(s.number+"/messages", body)
	if err != nil {
		return refusal(codeUnsupported, "The receipt cannot be written as WhatsApp wants it.")
	}
	var answer struct {
		Success bool `json:"success"`
	}
	if err = s.client.do(ctx, in, &answer); err == nil && !answer.Success {
		err = &transportError{written: true, cause: errors.New("the answer does not say success")}
	}
	if err != nil {
		return s.noted(0, outcome(err, true))
	}
	return nil
}
