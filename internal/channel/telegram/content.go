package telegram

import (
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strings"

	tgbotapi "github.com/go-telegram-bot-api/telegram-bot-api/v5"

	"switchboard/internal/domain"
)

const askAgain = "Ask the customer to send it another way."

// fill gives a message of ours its type and content. The error is for what a
// message of its kind cannot be without; it tells no content.
func (m *message) fill(out *domain.InboundMessage) error {
	switch {
	case m.Text != "":
		out.Content = withEntities(m.Text, m.Entities)
	case m.hasMedia():
		if err := m.fillMedia(out); err != nil {
			return err
		}
		if m.Caption != "" || out.Type != domain.TypeSticker {
			out.Content = withEntities(m.Caption, m.CaptionEntities)
		}
	case m.Venue != nil:
		return m.fillLocation(out, m.Venue.Location, m.Venue.Title, m.Venue.Address)
	case m.Location != nil:
		return m.fillLocation(out, *m.Location, "", "")
	case m.Contact != nil:
		m.fillContact(out)
	default:
		if out.Content = m.described(); out.Content == "" {
			out.Type, out.Content = domain.TypeUnsupported, "Unsupported message of type "+m.unknownKind()+". "+askAgain
		}
	}
	out.Content = bounded(m.quoted() + out.Content)
	return nil
}

// maxContent bounds a message's text, in characters. Telegram's own have at most
// 4,096; what is longer did not come from there, and must not reach every screen.
const maxContent = 1 << 16

func bounded(s string) string {
	if short := cut(s, maxContent); short != s {
		return short + "\n(The message is longer than can be shown.)"
	}
	return s
}

func (m *message) hasMedia() bool {
	return len(m.Photo) > 0 || m.Animation != nil || m.Video != nil || m.VideoNote != nil || m.Voice != nil ||
		m.Audio != nil || m.Document != nil || m.Sticker != nil
}

// fillMedia sets the file. An animation is also a document to old clients, so
// documents come last.
func (m *message) fillMedia(out *domain.InboundMessage) error {
	f := &domain.InboundMedia{}
	switch {
	case len(m.Photo) > 0:
		largest := slices.MaxFunc(m.Photo, func(a, b tgbotapi.PhotoSize) int { return a.Width*a.Height - b.Width*b.Height })
		out.Type = domain.TypeImage
		f.Ref, f.MIME, f.Size, f.Width, f.Height = largest.FileID, "image/jpeg", int64(largest.FileSize), largest.Width, largest.Height
	case m.Animation != nil:
		a := m.Animation
		f.Ref, f.MIME, f.Filename, f.Size = a.FileID, mimeOf(a.MimeType, "video/mp4"), a.FileName, int64(a.FileSize)
		f.Width, f.Height, f.DurationMS = a.Width, a.Height, milliseconds(a.Duration)
		if out.Type = domain.TypeVideo; strings.HasPrefix(f.MIME, "image/") {
			out.Type = domain.TypeImage
		}
	case m.Video != nil:
		v := m.Video
		out.Type = domain.TypeVideo
		f.Ref, f.MIME, f.Filename, f.Size = v.FileID, mimeOf(v.MimeType, "video/mp4"), v.FileName, int64(v.FileSize)
		f.Width, f.Height, f.DurationMS = v.Width, v.Height, milliseconds(v.Duration)
	case m.VideoNote != nil:
		v := m.VideoNote
		out.Type = domain.TypeVideo
		f.Ref, f.MIME, f.Size = v.FileID, "video/mp4", int64(v.FileSize)
		f.Width, f.Height, f.DurationMS = v.Length, v.Length, milliseconds(v.Duration)
	case m.Voice != nil:
		v := m.Voice
		out.Type = domain.TypeVoice
		f.Ref, f.MIME, f.Size, f.DurationMS = v.FileID, mimeOf(v.MimeType, "audio/ogg"), int64(v.FileSize), milliseconds(v.Duration)
	case m.Audio != nil:
		m.fillAudio(out, f)
	case m.Sticker != nil:
		m.fillSticker(out, f)
	default:
		d := m.Document
		out.Type = domain.TypeDocument
		f.Ref, f.MIME, f.Filename, f.Size = d.FileID, mimeOf(d.MimeType, "application/octet-stream"), d.FileName, int64(d.FileSize)
	}
	if f.Ref == "" || len(f.Ref) > maxFileID {
		return fmt.Errorf("file_id of the %s is missing or longer than %d bytes", out.Type, maxFileID)
	}
	f.Ref, f.Filename = clean(f.Ref), cut(clean(f.Filename), 255)
	f.Size, f.Width, f.Height = max(f.Size, 0), max(f.Width, 0), max(f.Height, 0)
	out.Media = f
	return nil
}

func (m *message) fillAudio(out *domain.InboundMessage, f *domain.InboundMedia) {
	a := m.Audio
	out.Type = domain.TypeAudio
	f.Ref, f.MIME, f.Filename, f.Size = a.FileID, mimeOf(a.MimeType, "audio/mpeg"), a.FileName, int64(a.FileSize)
	f.DurationMS = milliseconds(a.Duration)
	if f.Filename == "" {
		f.Filename = strings.Trim(a.Performer+" - "+a.Title, "- ")
	}
}

// fillSticker takes the emoji that the sticker stands for as its text: animated
// ones are no pictures to a browser.
func (m *message) fillSticker(out *domain.InboundMessage, f *domain.InboundMedia) {
	s := m.Sticker
	out.Type, out.Content = domain.TypeSticker, clean(s.Emoji)
	f.Ref, f.MIME, f.Size, f.Width, f.Height = s.FileID, "image/webp", int64(s.FileSize), s.Width, s.Height
	switch {
	case s.Video:
		f.MIME = "video/webm"
	case s.IsAnimated:
		f.MIME = "application/x-tgsticker"
	}
}

// milliseconds bounds a duration to a day: it is a label.
func milliseconds(seconds int) int { return min(max(seconds, 0), 86400) * 1000 }

// mimeOf keeps a well-formed MIME type.
func mimeOf(s, otherwise string) string {
	if base, _, err := mime.ParseMediaType(s); err != nil || len(s) > 255 || !strings.Contains(base, "/") {
		return otherwise
	}
	return s
}

func (m *message) fillLocation(out *domain.InboundMessage, at tgbotapi.Location, name, street string) error {
	if !(at.Latitude >= -90 && at.Latitude <= 90 && at.Longitude >= -180 && at.Longitude <= 180) {
		return errors.New("latitude and longitude are not degrees")
	}
	out.Type = domain.TypeLocation
	out.Location = &domain.Location{
		Latitude: at.Latitude, Longitude: at.Longitude, Name: cut(clean(name), 1000), Address: cut(clean(street), 1000),
	}
	if out.Content = m.quoted(); at.LivePeriod > 0 {
		out.Content += "Live location: it moves, and is shown where it was first."
	}
	return nil
}

// fillContact shows a shared contact. Somebody who shares the own number is
// known under it from now on: Telegram says whose number it is.
func (m *message) fillContact(out *domain.InboundMessage) {
	c := m.Contact
	name, phone := fullName(c.FirstName, c.LastName, ""), clean(strings.TrimSpace(c.PhoneNumber))
	digits := strings.TrimPrefix(phone, "+")
	if isPhone(digits) {
		phone = "+" + digits
	}
	out.Type = domain.TypeContact
	switch {
	case name == "" && phone == "":
		out.Content = "(a contact without name and number)"
	case name == "":
		out.Content = phone
	case phone == "":
		out.Content = name
	default:
		out.Content = name + ": " + phone
	}
	own := m.From != nil && c.UserID != 0 && c.UserID == m.From.ID && m.ForwardDate == 0
	if own && out.Peer.Kind == domain.ChatDirect && isPhone(digits) {
		out.Peer.Identities = append(out.Peer.Identities, domain.Identity{Kind: domain.IdentityPhone, Value: digits})
	}
}

func isPhone(s string) bool {
	return len(s) >= 7 && len(s) <= 15 && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// described are the kinds that are told in words.
func (m *message) described() string {
	switch {
	case m.Poll != nil:
		lines := []string{"Poll: " + m.Poll.Question}
		for _, o := range m.Poll.Options {
			lines = append(lines, "• "+o.Text)
		}
		return clean(strings.Join(lines, "\n"))
	case m.Checklist != nil:
		lines := []string{"Checklist: " + m.Checklist.Title}
		for _, t := range m.Checklist.Tasks {
			mark := "☐ "
			if t.Done > 0 {
				mark = "☑ "
			}
			lines = append(lines, mark+t.Text)
		}
		return clean(strings.Join(lines, "\n"))
	case m.Dice != nil:
		return fmt.Sprintf("%s %d", clean(m.Dice.Emoji), m.Dice.Value)
	case m.Game != nil:
		return clean(strings.TrimRight("Game: "+m.Game.Title+"\n"+m.Game.Description, "\n"))
	case m.Invoice != nil:
		return clean(fmt.Sprintf("Invoice: %s, %s", m.Invoice.Title, price(m.Invoice.TotalAmount, m.Invoice.Currency)))
	case m.WebAppData != nil:
		return clean(strings.TrimSpace(m.WebAppData.Button + "\n" + m.WebAppData.Data))
	case m.UsersShared != nil:
		lines := []string{"Shared people:"}
		for _, u := range m.UsersShared.Users {
			lines = append(lines, fullName(u.FirstName, u.LastName, u.Username))
		}
		return strings.Join(lines, "\n")
	default:
		return ""
	}
}

// price writes an amount in the smallest unit of a currency. The few without
// hundredths are written as Telegram gives them, in the smallest unit.
func price(amount int, currency string) string {
	switch currency {
	case "XTR":
		return fmt.Sprintf("%d Stars", amount)
	case "CLP", "IDR", "ISK", "JPY", "KRW", "PYG", "UGX", "UZS", "VND", "XAF", "XOF":
		return fmt.Sprintf("%d %s", amount, currency)
	default:
		return fmt.Sprintf("%d.%02d %s", amount/100, max(amount%100, -(amount%100)), currency)
	}
}

// envelope are the fields of a message that say nothing of its kind.
var envelope = map[string]bool{
	"message_id": true, "message_thread_id": true, "direct_messages_topic": true, "from": true, "sender_chat": true,
	"sender_boost_count": true, "sender_business_bot": true, "date": true, "business_connection_id": true, "chat": true,
	"forward_origin": true, "forward_from": true, "forward_from_chat": true, "forward_from_message_id": true,
	"forward_signature": true, "forward_sender_name": true, "forward_date": true, "is_topic_message": true,
	"is_automatic_forward": true, "reply_to_message": true, "external_reply": true, "quote": true, "reply_to_story": true,
	"reply_to_checklist_task_id": true, "via_bot": true, "edit_date": true, "has_protected_content": true, "is_from_offline": true,
	"is_paid_post": true, "media_group_id": true, "author_signature": true, "paid_star_count": true, "link_preview_options": true,
	"effect_id": true, "show_caption_above_media": true, "has_media_spoiler": true, "caption": true, "caption_entities": true,
	"entities": true, "text": true, "reply_markup": true,
}

// unknownKind names the field that makes a message what it is.
func (m *message) unknownKind() string {
	for _, field := range slices.Sorted(maps.Keys(m.fields)) {
		if !envelope[field] {
			return cut(clean(strings.ReplaceAll(field, "_", " ")), 40)
		}
	}
	return "unknown"
}
