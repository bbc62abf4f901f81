package whatsapp

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"mime"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/reflect/protoreflect"

	"switchboard/internal/domain"
)

// maxWraps bounds how deep messages are wrapped into others.
const maxWraps = 8

// bare takes a message out of the wrappers that say no more than how it is shown;
// the library knows the older ones.
func bare(m *waE2E.Message) *waE2E.Message {
	for range maxWraps {
		var inner *waE2E.Message
		for _, wrapper := range []*waE2E.FutureProofMessage{
			m.GetGroupMentionedMessage(), m.GetAssociatedChildMessage(), m.GetBotForwardedMessage(), m.GetSpoilerMessage(),
			m.GetQuestionMessage(), m.GetQuestionReplyMessage(), m.GetPollCreationMessageV4(),
		} {
			if inner = wrapper.GetMessage(); inner != nil {
				break
			}
		}
		if inner == nil {
			return m
		}
		m = inner
	}
	return m
}

// fill gives a message of ours its type and content. false: there is nothing in
// it that people see.
func fill(out *domain.InboundMessage, m *waE2E.Message, at place) bool {
	switch {
	case m == nil:
		return false
	case m.Conversation != nil:
		out.Type, out.Content = domain.TypeText, clean(m.GetConversation())
		if out.Content == "" {
			out.Type, out.Content = domain.TypeUnsupported, empty
		}
	case m.ExtendedTextMessage != nil:
		out.Type, out.Content = domain.TypeText, clean(m.ExtendedTextMessage.GetText())
		out.ReplyToExternalID = quoted(m.ExtendedTextMessage.GetContextInfo())
	case m.PlaceholderMessage != nil:
		out.Type, out.Content = domain.TypeUnsupported, "A message that WhatsApp shows on the phone only."
	case fillMedia(out, m, at), fillPlace(out, m), fillCards(out, m), fillPoll(out, m), fillAnswer(out, m):
	default:
		what := kindOf(m)
		if what == "" {
			return false
		}
		out.Type = domain.TypeUnsupported
		out.Content = "A message of a kind that cannot be shown here (" + what + "). See the phone."
	}
	return true
}

const empty = "An empty message."

func quoted(c *waE2E.ContextInfo) string { return clean(c.GetStanzaID()) }

// hidden are the parts of a message that people do not see.
var hidden = map[protoreflect.Name]bool{
	"senderKeyDistributionMessage": true, "fastRatchetKeySenderKeyDistributionMessage": true, "messageContextInfo": true,
	"stickerSyncRmrMessage": true, "albumMessage": true, "keepInChatMessage": true, "pinInChatMessage": true, "encEventResponseMessage": true,
	"messageHistoryNotice": true, "messageHistoryBundle": true, "groupRootKeyShare": true, "rootSecretDistributeMessage": true,
	"statusNotificationMessage": true, "limitSharingMessage": true, "pollAddOptionMessage": true,
}

// kindOf is the name of the first part that people would see; empty if there is
// none. A message with no part that is known came from a newer app.
func kindOf(m *waE2E.Message) (kind string) {
	found := false
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		found = true
		if !hidden[f.Name()] {
			kind = string(f.Name())
		}
		return kind == ""
	})
	if !found && len(m.ProtoReflect().GetUnknown()) > 0 {
		return "of a newer app"
	}
	return strings.TrimSuffix(kind, "Message")
}

// mediaRef is what it takes to fetch a file, and to ask the phone for it again.
// It is kept with the file's row, as JSON.
type mediaRef struct {
	Kind       string `json:"kind"` // whatsmeow.MediaType
	DirectPath string `json:"path"`
	Key        []byte `json:"key"`
	EncHash    []byte `json:"encHash"`
	Hash       []byte `json:"hash"`

	Chat   string `json:"chat"` // of the message, as the library names it
	Sender string `json:"sender,omitempty"`
	ID     string `json:"id"`
	FromMe bool   `json:"fromMe,omitempty"`

	// URL is of a contact's picture instead.
	URL string `json:"url,omitempty"`
}

func (r mediaRef) String() string {
	raw, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	return string(raw)
}

// file is what the kinds of messages with a file have in common.
type file interface {
	GetMimetype() string
	GetDirectPath() string
	GetMediaKey() []byte
	GetFileEncSHA256() []byte
	GetFileSHA256() []byte
	GetFileLength() uint64
}

// fillMedia takes a message with a file.
func fillMedia(out *domain.InboundMessage, m *waE2E.Message, at place) bool {
	var f file
	var kind whatsmeow.MediaType
	var about *waE2E.ContextInfo
	media := &domain.InboundMedia{}
	switch {
	case m.ImageMessage != nil:
		i := m.ImageMessage
		f, kind, about, out.Type, out.Content = i, whatsmeow.MediaImage, i.GetContextInfo(), domain.TypeImage, clean(i.GetCaption())
		media.Width, media.Height = pixels(i.GetWidth()), pixels(i.GetHeight())
	case m.VideoMessage != nil, m.PtvMessage != nil:
		v := m.VideoMessage
		if v == nil {
			v = m.PtvMessage
		}
		f, kind, about, out.Type, out.Content = v, whatsmeow.MediaVideo, v.GetContextInfo(), domain.TypeVideo, clean(v.GetCaption())
		media.Width, media.Height, media.DurationMS = pixels(v.GetWidth()), pixels(v.GetHeight()), milliseconds(v.GetSeconds())
	case m.AudioMessage != nil:
		a := m.AudioMessage
		f, kind, about, out.Type = a, whatsmeow.MediaAudio, a.GetContextInfo(), domain.TypeAudio
		if a.GetPTT() {
			out.Type = domain.TypeVoice
		}
		media.DurationMS = milliseconds(a.GetSeconds())
	case m.DocumentMessage != nil:
		d := m.DocumentMessage
		f, kind, about, out.Type, out.Content = d, whatsmeow.MediaDocument, d.GetContextInfo(), domain.TypeDocument, clean(d.GetCaption())
		if media.Filename = cut(clean(d.GetFileName()), 255); media.Filename == "" {
			media.Filename = cut(clean(d.GetTitle()), 255)
		}
	case m.StickerMessage != nil:
		s := m.StickerMessage
		f, kind, about, out.Type = s, whatsmeow.MediaImage, s.GetContextInfo(), domain.TypeSticker
		media.Width, media.Height = pixels(s.GetWidth()), pixels(s.GetHeight())
	default:
		return false
	}
	out.ReplyToExternalID = quoted(about)
	media.MIME, media.Size = mimeOf(f.GetMimetype()), int64(min(f.GetFileLength(), math.MaxInt64)) // #nosec G115 -- bounded
	if len(f.GetFileSHA256()) == 32 {
		media.SHA256 = hex.EncodeToString(f.GetFileSHA256())
	}
	media.Ref = mediaRef{
		Kind: string(kind), DirectPath: clean(f.GetDirectPath()), Key: f.GetMediaKey(), EncHash: f.GetFileEncSHA256(), Hash: f.GetFileSHA256(),
		Chat: at.chat.String(), Sender: at.author.String(), ID: at.id, FromMe: at.fromMe,
	}.String()
	out.Media = media
	return true
}

func pixels(n uint32) int { return int(min(n, 1<<20)) }

// milliseconds bounds a duration to a day: it is a label.
func milliseconds(seconds uint32) int { return int(min(seconds, 86400)) * 1000 }

// mimeOf keeps a well-formed MIME type; anything else is bytes of no known kind.
func mimeOf(s string) string {
	if base, _, err := mime.ParseMediaType(s); err != nil || len(s) > 255 || !strings.Contains(base, "/") {
		return "application/octet-stream"
	}
	return clean(s)
}

func fillPlace(out *domain.InboundMessage, m *waE2E.Message) bool {
	var latitude, longitude float64
	where := &domain.Location{}
	switch {
	case m.LocationMessage != nil:
		l := m.LocationMessage
		latitude, longitude = l.GetDegreesLatitude(), l.GetDegreesLongitude()
		where.Name, where.Address = cut(clean(l.GetName()), 1000), cut(clean(l.GetAddress()), 1000)
		out.Content, out.ReplyToExternalID = clean(l.GetComment()), quoted(l.GetContextInfo())
		if l.GetIsLive() {
			where.Name = live(where.Name)
		}
	case m.LiveLocationMessage != nil:
		l := m.LiveLocationMessage
		latitude, longitude = l.GetDegreesLatitude(), l.GetDegreesLongitude()
		where.Name = live("")
		out.Content, out.ReplyToExternalID = clean(l.GetCaption()), quoted(l.GetContextInfo())
	default:
		return false
	}
	if !(math.Abs(latitude) <= 90 && math.Abs(longitude) <= 180) {
		out.Type, out.Content = domain.TypeUnsupported, "A place whose coordinates make no sense. See the phone."
		return true
	}
	where.Latitude, where.Longitude = latitude, longitude
	out.Type, out.Location = domain.TypeLocation, where
	return true
}

func live(name string) string {
	return strings.TrimSpace("Live location (where it was when sharing began) " + name)
}

func fillCards(out *domain.InboundMessage, m *waE2E.Message) bool {
	var cards []*waE2E.ContactMessage
	switch {
	case m.ContactMessage != nil:
		cards = []*waE2E.ContactMessage{m.ContactMessage}
		out.ReplyToExternalID = quoted(m.ContactMessage.GetContextInfo())
	case m.ContactsArrayMessage != nil:
		cards = m.ContactsArrayMessage.GetContacts()
		out.ReplyToExternalID = quoted(m.ContactsArrayMessage.GetContextInfo())
	default:
		return false
	}
	var lines []string
	for _, c := range cards {
		lines = append(lines, cardLine(clean(c.GetDisplayName()), clean(c.GetVcard())))
	}
	out.Type, out.Content = domain.TypeContact, strings.Join(lines, "\n")
	return true
}

// cardLine is a vCard as "Name: number, number, address".
func cardLine(name, card string) string {
	var reach []string
	for line := range strings.Lines(card) {
		field, value, found := strings.Cut(strings.TrimSpace(line), ":")
		field, _, _ = strings.Cut(strings.ToUpper(field), ";")
		if _, last, grouped := strings.Cut(field, "."); grouped {
			field = last
		}
		if value = strings.TrimSpace(value); !found || value == "" {
			continue
		}
		switch field {
		case "TEL", "EMAIL":
			reach = append(reach, value)
		case "FN":
			if name == "" {
				name = value
			}
		}
	}
	switch {
	case name == "" && len(reach) == 0:
		return "(a contact without name and number)"
	case name == "":
		return strings.Join(reach, ", ")
	case len(reach) == 0:
		return name
	}
	return name + ": " + strings.Join(reach, ", ")
}

func fillPoll(out *domain.InboundMessage, m *waE2E.Message) bool {
	var poll *waE2E.PollCreationMessage
	for _, p := range []*waE2E.PollCreationMessage{
		m.PollCreationMessage, m.PollCreationMessageV2, m.PollCreationMessageV3, m.PollCreationMessageV4.GetMessage().GetPollCreationMessage(),
		m.PollCreationMessageV5, m.PollCreationMessageV6,
	} {
		if p != nil {
			poll = p
		}
	}
	if poll == nil {
		if m.PollUpdateMessage == nil {
			return false
		}
		out.Type, out.Silent, out.Content = domain.TypeSystem, true, "Somebody voted in the poll. The votes are on the phone."
		return true
	}
	lines := []string{"Poll: " + clean(poll.GetName())}
	for _, option := range poll.GetOptions() {
		lines = append(lines, "- "+clean(option.GetOptionName()))
	}
	out.Type, out.Content, out.ReplyToExternalID = domain.TypeText, strings.Join(lines, "\n"), quoted(poll.GetContextInfo())
	return true
}

// fillAnswer takes what people pick from buttons and lists, and what businesses
// and shops send that is mostly text.
func fillAnswer(out *domain.InboundMessage, m *waE2E.Message) bool {
	var text string
	var about *waE2E.ContextInfo
	switch {
	case m.ButtonsResponseMessage != nil:
		text, about = m.ButtonsResponseMessage.GetSelectedDisplayText(), m.ButtonsResponseMessage.GetContextInfo()
	case m.TemplateButtonReplyMessage != nil:
		text, about = m.TemplateButtonReplyMessage.GetSelectedDisplayText(), m.TemplateButtonReplyMessage.GetContextInfo()
	case m.ListResponseMessage != nil:
		text, about = m.ListResponseMessage.GetTitle(), m.ListResponseMessage.GetContextInfo()
	case m.InteractiveResponseMessage != nil:
		text, about = m.InteractiveResponseMessage.GetBody().GetText(), m.InteractiveResponseMessage.GetContextInfo()
	case m.ButtonsMessage != nil:
		text, about = m.ButtonsMessage.GetContentText(), m.ButtonsMessage.GetContextInfo()
	case m.ListMessage != nil:
		text, about = strings.TrimSpace(m.ListMessage.GetTitle()+"\n"+m.ListMessage.GetDescription()), m.ListMessage.GetContextInfo()
	case m.TemplateMessage != nil:
		text, about = m.TemplateMessage.GetHydratedTemplate().GetHydratedContentText(), m.TemplateMessage.GetContextInfo()
	case m.InteractiveMessage != nil:
		text, about = m.InteractiveMessage.GetBody().GetText(), m.InteractiveMessage.GetContextInfo()
	case m.GroupInviteMessage != nil:
		text, about = "Invitation to the group “"+m.GroupInviteMessage.GetGroupName()+"”. "+m.GroupInviteMessage.GetCaption(), m.GroupInviteMessage.GetContextInfo()
	case m.ProductMessage != nil:
		text, about = "Product: "+m.ProductMessage.GetProduct().GetTitle()+". "+m.ProductMessage.GetBody(), m.ProductMessage.GetContextInfo()
	case m.OrderMessage != nil:
		text, about = "Order: "+m.OrderMessage.GetOrderTitle()+". "+m.OrderMessage.GetMessage()+" See the phone for the details.", m.OrderMessage.GetContextInfo()
	case m.EventMessage != nil:
		text, about = "Event: "+m.EventMessage.GetName()+". "+m.EventMessage.GetDescription(), m.EventMessage.GetContextInfo()
	default:
		return false
	}
	if text = strings.TrimSpace(clean(text)); text == "" {
		return false
	}
	out.Type, out.Content, out.ReplyToExternalID = domain.TypeText, text, quoted(about)
	return true
}
