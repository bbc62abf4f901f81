package waba

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"switchboard/internal/domain"
)

// contact is what a webhook tells of a person beside the message.
type contact struct {
	Profile struct {
		Name     loose `json:"name"`
		Username loose `json:"username"`
	} `json:"profile"`
	WaID   loose `json:"wa_id"`
	UserID loose `json:"user_id"`
}

// contacts finds who a message is from by number or business-scoped id.
type contacts map[loose]contact

// readContacts leaves out what it cannot read: a message without a name is
// better than none.
func readContacts(raw json.RawMessage) contacts {
	list, err := elements(raw)
	if err != nil {
		return nil
	}
	known := contacts{}
	for _, one := range list {
		var c contact
		if decode(one, &c) != nil {
			continue
		}
		for _, id := range []loose{c.WaID, c.UserID} {
			if id != "" {
				known[id] = c
			}
		}
	}
	return known
}

func (c contact) name() string {
	switch {
	case c.Profile.Name != "":
		return cut(string(c.Profile.Name), 200)
	case c.Profile.Username != "":
		return "@" + cut(string(c.Profile.Username), 200)
	default:
		return ""
	}
}

// envelope is what all types of messages have.
type envelope struct {
	ID         loose           `json:"id"`
	From       loose           `json:"from"`
	FromUserID loose           `json:"from_user_id"`
	GroupID    loose           `json:"group_id"`
	Timestamp  loose           `json:"timestamp"`
	Type       loose           `json:"type"`
	Context    quoted          `json:"context"`
	Errors     json.RawMessage `json:"errors"`
}

// quoted is the message that another one answers. A forwarded message has a
// context without an id; that it was forwarded has no place in our messages.
type quoted struct {
	ID loose `json:"id"`
}

// incoming is a message on its way through conversion.
type incoming struct {
	envelope

	content json.RawMessage // the value under the type
	errors  []metaError
	at      domain.Time
	peer    domain.Peer
	sender  domain.Peer // in a group
}

func readMessage(raw json.RawMessage, known contacts) (incoming, error) {
	var m incoming
	if err := decode(raw, &m.envelope); err != nil {
		return m, err
	}
	var fields map[string]json.RawMessage
	if err := decode(raw, &fields); err != nil {
		return m, err
	}
	m.content = fields[string(m.Type)]
	m.errors = metaErrors(m.Errors)
	if _, err := m.ID.key("id"); err != nil {
		return m, err
	}
	var err error
	if m.at, err = m.Timestamp.at(); err != nil {
		return m, err
	}
	return m, m.identify(known)
}

// identify fills in who wrote, and where.
func (m *incoming) identify(known contacts) error {
	if m.From == "" && m.FromUserID == "" {
		return errors.New("from and from_user_id are missing")
	}
	for _, id := range []loose{m.From, m.FromUserID, m.GroupID} {
		if len(id) > maxAddress {
			return fmt.Errorf("an address is longer than %d bytes", maxAddress)
		}
	}
	who, ok := known[m.From]
	if !ok || m.From == "" {
		who = known[m.FromUserID]
	}
	phone, userID := loose(strings.TrimPrefix(string(m.From), "+")), m.FromUserID
	if phone == "" && isDigits(string(who.WaID)) && len(who.WaID) <= maxAddress {
		phone = who.WaID
	}
	if userID == "" && len(who.UserID) <= maxAddress {
		userID = who.UserID
	}
	m.peer = person(string(phone), string(userID), who.name())
	if len(m.peer.Identities) == 0 {
		return errors.New("from is no phone number, and there is no user id")
	}
	if m.GroupID != "" {
		m.peer, m.sender = group(string(m.GroupID)), m.peer
	}
	return nil
}

// convertMessage turns a message of a webhook into ours. The error is for what
// cannot be one; it tells no content.
func convertMessage(raw json.RawMessage, known contacts) (domain.Inbound, error) {
	m, err := readMessage(raw, known)
	if err != nil {
		return domain.Inbound{}, err
	}
	var inbound domain.Inbound
	switch {
	case len(m.errors) > 0 && absent(m.content):
		inbound.Message = m.unsupported(string(m.Type))
	case m.Type == "reaction":
		inbound.Reaction, err = m.reaction()
	case m.Type == "edit":
		inbound, err = m.edit()
	case m.Type == "revoke":
		inbound, err = m.revoke()
	default:
		inbound.Message, err = m.message()
	}
	if err != nil {
		return domain.Inbound{}, fmt.Errorf("%s: %w", cut(string(m.Type), 40), err)
	}
	return inbound, nil
}

// base is a message of ours without content.
func (m *incoming) base(kind domain.MessageType) *domain.InboundMessage {
	out := &domain.InboundMessage{
		ExternalID: string(m.ID), Peer: m.peer, Sender: m.sender, Type: kind, ProviderTime: m.at,
	}
	if len(m.Context.ID) <= maxExternalID {
		out.ReplyToExternalID = string(m.Context.ID)
	}
	return out
}

func (m *incoming) message() (*domain.InboundMessage, error) {
	switch m.Type {
	case "unsupported":
		return m.unsupported(m.unsupportedKind()), nil
	case "request_welcome":
		out := m.base(domain.TypeSystem)
		out.Content, out.Silent = "The customer opened the chat for the first time.", true
		return out, nil
	}
	convert, known := converters[string(m.Type)]
	switch {
	case !known:
		return m.unsupported(string(m.Type)), nil
	case absent(m.content):
		return nil, errors.New("its content is missing")
	}
	return convert(m)
}

// converters are the types that we can show.
var converters = map[string]func(*incoming) (*domain.InboundMessage, error){
	"text":        (*incoming).text,
	"image":       (*incoming).media,
	"video":       (*incoming).media,
	"audio":       (*incoming).media,
	"document":    (*incoming).media,
	"sticker":     (*incoming).media,
	"location":    (*incoming).location,
	"contacts":    (*incoming).cards,
	"button":      (*incoming).button,
	"interactive": (*incoming).interactive,
	"order":       (*incoming).order,
	"system":      (*incoming).system,
}
