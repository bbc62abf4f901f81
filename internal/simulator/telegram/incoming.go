package telegram

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Incoming is what a customer writes. Type chooses which other field is needed.
type Incoming struct {
	// Type: text, photo, video, animation, voice, audio, document, sticker, video_note, location, venue, contact, poll, dice
	// or raw. Default text.
	Type string `json:"type,omitempty"`
	// From is the customer; default the one of a private chat. In a channel nobody is shown.
	From int64 `json:"from,omitempty"`

	Text      string         `json:"text,omitempty"`      // of a text
	Entities  []Entity       `json:"entities,omitempty"`  // of text or caption; mentions, links, commands and the like are found anyway
	ParseMode string         `json:"parseMode,omitempty"` // HTML or MarkdownV2: Text or Caption is written in it
	Caption   string         `json:"caption,omitempty"`
	Media     *IncomingMedia `json:"media,omitempty"` // default a generated file
	Location  *Location      `json:"location,omitempty"`
	Venue     *Venue         `json:"venue,omitempty"`
	Contact   *Contact       `json:"contact,omitempty"` // default the customer's own
	Poll      *Poll          `json:"poll,omitempty"`    // question and options; the rest has defaults
	Emoji     string         `json:"emoji,omitempty"`   // of a dice or sticker
	Value     int            `json:"value,omitempty"`   // of a dice, default 1

	// Content is an object whose fields are added to the message as they are; with the type raw it is all of the content, as
	// a future type of Telegram's would be.
	Content json.RawMessage `json:"content,omitempty"`

	ReplyTo       int64           `json:"replyTo,omitempty"`
	Quote         string          `json:"quote,omitempty"`         // a part of the text that ReplyTo has
	ExternalReply json.RawMessage `json:"externalReply,omitempty"` // Telegram's ExternalReplyInfo
	ForwardedFrom string          `json:"forwardedFrom,omitempty"` // name of a hidden user
	AlbumID       string          `json:"albumId,omitempty"`       // media_group_id; the same for all of an album
	ThreadID      int64           `json:"threadId,omitempty"`      // topic of a forum
	At            time.Time       `json:"at,omitzero"`             // when it was sent; default now
}

// IncomingMedia is a file that the customer sends: File of an upload, Data, or neither for a generated one.
type IncomingMedia struct {
	File     string `json:"file,omitempty"` // of CustomerUpload
	Data     []byte `json:"data,omitempty"` // base64 in JSON
	MIMEType string `json:"mimeType,omitempty"`
	Filename string `json:"filename,omitempty"`
	Width    int    `json:"width,omitempty"`
	Height   int    `json:"height,omitempty"`
	Duration int    `json:"duration,omitempty"` // seconds
	// Size larger than the data makes a file of that many bytes of filler; above 20 MB the bot cannot download it.
	Size int64 `json:"size,omitempty"`
}

// Sent is a message that a customer sent, and the updates that tell bots of it. A bot that has privacy on, does not want
// the kind of update or is not in the chat gets none.
type Sent struct {
	ChatID    int64       `json:"chatId"`
	MessageID int64       `json:"messageId"`
	Updates   []UpdateRef `json:"updates"`
}

// CustomerSend makes a customer write in a chat with the bot: a customer's id is the private chat, a negative id a group.
// It does not wait until the bot has the update. Writing to a bot unblocks it.
func (s *Server) CustomerSend(botID, chatID int64, in Incoming) (Sent, error) {
	file, err := s.customerFile(in)
	if err != nil {
		return Sent{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bot(botID)
	if err != nil {
		return Sent{}, err
	}
	ch, err := s.findChat(b, chatID)
	if err != nil {
		return Sent{}, err
	}
	if ch.migratedTo != 0 {
		return Sent{}, fmt.Errorf("%w: chat %d became %d", ErrInvalid, ch.ID, ch.migratedTo)
	}
	m, who, err := s.compose(ch, in)
	if err != nil {
		return Sent{}, err
	}
	if err := s.fill(ch, m, who, in, file); err != nil {
		return Sent{}, err
	}
	if ch.owner != nil {
		ch.started = true
		if ch.blocked {
			s.setBlocked(ch, who, false)
		}
	}
	k, updates := s.broadcast(ch, m, 0)
	s.inbound(b.ID, Inbound{ChatID: ch.ID, MessageID: k.MessageID, From: fromID(who), Type: k.kind(), Updates: updates})
	return Sent{ch.ID, k.MessageID, updates}, nil
}

func fromID(who *Customer) int64 {
	if who == nil {
		return 0
	}
	return who.ID
}

func (s *Server) inbound(bot int64, in Inbound) {
	s.ledger.append(Entry{Kind: KindInbound, Bot: bot, Inbound: &in})
}

// author finds who acts in a chat; nil in a channel without From. It needs s.mu.
func (s *Server) author(ch *chat, from int64) (*Customer, error) {
	switch {
	case ch.owner != nil && from != 0 && from != ch.ID:
		return nil, fmt.Errorf("%w: only customer %d is in this private chat", ErrInvalid, ch.ID)
	case ch.owner != nil:
		from = ch.ID
	case from == 0 && ch.Type == ChatChannel:
		return nil, nil //nolint:nilnil // a channel's posts have no author
	case from == 0 && len(ch.members) > 0:
		from = ch.members[0]
	}
	who := s.customers[from]
	if who == nil {
		return nil, fmt.Errorf("customer %d: %w", from, ErrNotFound)
	}
	if ch.owner == nil && !slices.Contains(ch.members, from) {
		return nil, fmt.Errorf("%w: customer %d is not in chat %d", ErrInvalid, from, ch.ID)
	}
	return who, nil
}

// compose makes a message without its content; it needs s.mu.
func (s *Server) compose(ch *chat, in Incoming) (*Message, *Customer, error) {
	who, err := s.author(ch, in.From)
	if err != nil {
		return nil, nil, err
	}
	m := &Message{MediaGroupID: in.AlbumID, MessageThreadID: in.ThreadID, IsTopicMessage: in.ThreadID != 0, ExternalReply: in.ExternalReply}
	if !in.At.IsZero() {
		m.Date = in.At.Unix()
	}
	if ch.Type == ChatChannel {
		from := ch.Chat
		m.SenderChat = &from
	} else {
		u := who.user()
		m.From = &u
	}
	if in.ReplyTo != 0 {
		k := ch.byID[in.ReplyTo]
		if k == nil {
			return nil, nil, fmt.Errorf("message %d: %w", in.ReplyTo, ErrNotFound)
		}
		m.ReplyToMessage = snapshot(k.Message)
		if in.Quote != "" {
			before, _, ok := strings.Cut(k.Text+k.Caption, in.Quote)
			if !ok {
				return nil, nil, fmt.Errorf("%w quote %q: message %d does not have it", ErrInvalid, in.Quote, in.ReplyTo)
			}
			m.Quote = &Quote{Text: in.Quote, Position: utf16Len(before), IsManual: true}
		}
	}
	if in.ForwardedFrom != "" {
		m.ForwardOrigin = &ForwardOrigin{Type: "hidden_user", Date: s.unix(), SenderUserName: in.ForwardedFrom}
	}
	return m, who, nil
}

var mediaTypes = []string{"photo", "video", "animation", "voice", "audio", "document", "sticker", "video_note"}

// customerFile is the file of a message with media, nil for others.
func (s *Server) customerFile(in Incoming) (*storedFile, error) {
	if !slices.Contains(mediaTypes, in.Type) {
		return nil, nil //nolint:nilnil // no file is no error
	}
	var med IncomingMedia
	if in.Media != nil {
		med = *in.Media
	}
	if med.File != "" {
		return s.uploaded(med.File)
	}
	if len(med.Data) > maxCustomer || med.Size < 0 || med.Size > 4<<30 {
		return nil, fmt.Errorf("%w media of %d bytes: at most 100 MiB of data, or a size of at most 4 GiB", ErrInvalid, len(med.Data))
	}
	if len(med.Data) == 0 {
		mimeType, name, data := sample(in.Type)
		if med.MIMEType == "" {
			med.MIMEType = mimeType
		}
		if med.Filename == "" {
			med.Filename = name
		}
		med.Data = data
	}
	return s.files.put(in.Type, med.MIMEType, med.Filename, med.Data, med.Size), nil
}

// fill makes the content; it needs s.mu.
func (s *Server) fill(ch *chat, m *Message, who *Customer, in Incoming, file *storedFile) error {
	if err := m.addContent(in.Content); err != nil {
		return err
	}
	switch in.Type {
	case "", "text":
		text, marks, err := in.formatted(in.Text, maxText)
		if err != nil {
			return err
		}
		if text == "" {
			return fmt.Errorf("%w text: it must not be empty", ErrInvalid)
		}
		m.Text, m.Entities = text, marks
	case "location":
		m.Location = in.Location
		if m.Location == nil {
			m.Location = &Location{Latitude: 52.516275, Longitude: 13.377704}
		}
	case "venue":
		m.Venue = in.Venue
		if m.Venue == nil {
			m.Venue = &Venue{Location{Latitude: 52.516275, Longitude: 13.377704}, "Brandenburg Gate", "Pariser Platz, Berlin", ""}
		}
		m.Location = &m.Venue.Location
	case "contact":
		m.Contact = in.Contact
		if m.Contact == nil && who != nil {
			m.Contact = &Contact{PhoneNumber: who.Phone, FirstName: who.FirstName, LastName: who.LastName, UserID: who.ID}
		}
		if m.Contact == nil || m.Contact.PhoneNumber == "" {
			return fmt.Errorf("%w contact: it needs a phone number", ErrInvalid)
		}
	case "poll":
		return s.fillPoll(m, in.Poll)
	case "dice":
		m.Dice = &Dice{in.Emoji, max(in.Value, 1)}
		if in.Emoji == "" {
			m.Dice.Emoji = "🎲"
		}
	case "raw":
		if len(m.extra) == 0 {
			return fmt.Errorf("%w content: a raw message needs one", ErrInvalid)
		}
	default:
		return s.fillMedia(m, in, file)
	}
	return nil
}

func (s *Server) fillMedia(m *Message, in Incoming, file *storedFile) error {
	if file == nil {
		return fmt.Errorf("%w type %q: text, %s, location, venue, contact, poll, dice or raw", ErrInvalid, in.Type, strings.Join(mediaTypes, ", "))
	}
	caption, marks, err := in.formatted(in.Caption, maxCaption)
	if err != nil {
		return err
	}
	if in.Type != "sticker" && in.Type != "video_note" {
		m.Caption, m.CaptionEntities = caption, marks
	}
	d := mediaDetails{emoji: in.Emoji}
	if in.Media != nil {
		d.width, d.height, d.duration, d.name = in.Media.Width, in.Media.Height, in.Media.Duration, in.Media.Filename
	}
	if in.Type == "sticker" && d.emoji == "" {
		d.emoji = "🐳"
	}
	if d.duration == 0 {
		d.duration = 1
	}
	m.setMedia(in.Type, file, d)
	return nil
}

func (s *Server) fillPoll(m *Message, p *Poll) error {
	poll := Poll{Question: "Which day suits you?", Options: []PollOption{{Text: "Monday"}, {Text: "Tuesday"}}, IsAnonymous: true}
	if p != nil {
		poll = *p
	}
	poll.ID = fmt.Sprint(s.nextID())
	if poll.Type == "" {
		poll.Type = "regular"
	}
	if e := poll.check(); e != nil {
		return fmt.Errorf("%w poll: %s", ErrInvalid, e.description)
	}
	m.Poll = &poll
	return nil
}

func (in Incoming) formatted(text string, longest int) (string, []Entity, error) {
	marks := slices.Clone(in.Entities)
	if in.ParseMode != "" {
		var err error
		if text, marks, err = parseText(text, in.ParseMode); err != nil {
			return "", nil, fmt.Errorf("%w text: %w", ErrInvalid, err)
		}
	}
	text, marks = trim(text, marks)
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > longest {
		return "", nil, fmt.Errorf("%w text: it must be UTF-8 of at most %d characters", ErrInvalid, longest)
	}
	return text, detect(text, marks), nil
}

// addContent adds the fields of an object.
func (m *Message) addContent(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&m.extra); err != nil {
		return fmt.Errorf("%w content: it must be a JSON object: %w", ErrInvalid, err)
	}
	return nil
}

// broadcast keeps a message that no bot wrote, or a service message, in its chat and tells every bot there; it needs s.mu.
func (s *Server) broadcast(ch *chat, m *Message, sender int64) (*kept, []UpdateRef) {
	k := s.keep(ch, m, sender)
	kind := UpdateMessage
	if ch.Type == ChatChannel {
		kind = UpdateChannelPost
	}
	return k, s.tellAll(ch, k, kind)
}

// tellAll tells the bots of a chat of a message; it needs s.mu.
func (s *Server) tellAll(ch *chat, k *kept, kind string) []UpdateRef {
	refs := []UpdateRef{}
	a := about{chat: ch.ID, message: k.MessageID}
	if k.From != nil && !k.From.IsBot {
		a.from = k.From.ID
	}
	for _, b := range s.listeners(ch) {
		if !b.hears(ch, k.Message) {
			continue
		}
		refs = append(refs, s.tell(b, kind, k.forBot(b.ID), a)...)
	}
	return refs
}

// listeners are the bots in a chat; it needs s.mu.
func (s *Server) listeners(ch *chat) []*bot {
	if ch.owner != nil {
		return []*bot{ch.owner}
	}
	var out []*bot
	for _, id := range s.botOrder {
		if st := ch.bots[id]; st == StatusMember || st == StatusAdministrator {
			out = append(out, s.bots[id])
		}
	}
	return out
}

// hears says whether a bot sees a message: with privacy on, in groups only what is meant for it, and
// service messages.
func (b *bot) hears(ch *chat, m *Message) bool {
	if !b.Privacy || ch.owner != nil || ch.Type == ChatChannel || ch.bots[b.ID] == StatusAdministrator || m.service() {
		return true
	}
	text := m.Text + m.Caption
	return strings.HasPrefix(text, "/") || strings.Contains(strings.ToLower(text), "@"+strings.ToLower(b.Username)) ||
		(m.ReplyToMessage != nil && m.ReplyToMessage.From != nil && m.ReplyToMessage.From.ID == b.ID)
}
