package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
)

var mediaKinds = map[domain.MessageType]whatsmeow.MediaType{
	domain.TypeImage: whatsmeow.MediaImage, domain.TypeSticker: whatsmeow.MediaImage, domain.TypeVideo: whatsmeow.MediaVideo,
	domain.TypeAudio: whatsmeow.MediaAudio, domain.TypeVoice: whatsmeow.MediaAudio, domain.TypeDocument: whatsmeow.MediaDocument,
}

// composeMedia uploads a file, encrypted, and makes the message that tells where
// it is.
func (s *Session) composeMedia(ctx context.Context, client *whatsmeow.Client, m domain.Outbound, about *waE2E.ContextInfo) (*waE2E.Message, error) {
	if m.Message.Media == nil {
		return nil, refusal(codeMediaFailed, "The message has no file.")
	}
	t, base := m.Message.Type, strings.ToLower(m.Message.Media.MIME)
	base, _, _ = strings.Cut(base, ";")
	switch {
	case t == domain.TypeSticker && base != "image/webp":
		return nil, refusal(codeUnsupported, "WhatsApp takes stickers as WebP only. Send the picture as an image.")
	case t == domain.TypeVoice && base != "audio/ogg":
		t = domain.TypeAudio // its apps play nothing else as a voice message
	}
	up, media, err := s.upload(ctx, client, m.Message.Media.ID, mediaKinds[t])
	if err != nil {
		return nil, err
	}
	caption := m.Message.Content
	if t == domain.TypeImage {
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
			Caption: nonEmpty(caption), Mimetype: &media.MIME, URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey,
			FileEncSHA256: up.FileEncSHA256, FileSHA256: up.FileSHA256, FileLength: &up.FileLength, ContextInfo: about,
			Width: size(media.Width), Height: size(media.Height), JPEGThumbnail: s.thumbnail(ctx, media.ID),
		}}, nil
	}
	return composeFile(t, caption, media, up, about), nil
}

func composeFile(t domain.MessageType, caption string, media domain.Media, up whatsmeow.UploadResponse, about *waE2E.ContextInfo) *waE2E.Message {
	seconds := proto.Uint32(uint32(min(max(media.DurationMS, 0)/1000, 86400))) // #nosec G115 -- bounded
	switch t {
	case domain.TypeVideo:
		return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{
			Caption: nonEmpty(caption), Mimetype: &media.MIME, URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey,
			FileEncSHA256: up.FileEncSHA256, FileSHA256: up.FileSHA256, FileLength: &up.FileLength, ContextInfo: about,
			Width: size(media.Width), Height: size(media.Height), Seconds: seconds,
		}}
	case domain.TypeAudio, domain.TypeVoice:
		return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{
			Mimetype: audioMIME(t, media.MIME), URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256,
			FileSHA256: up.FileSHA256, FileLength: &up.FileLength, ContextInfo: about, Seconds: seconds, PTT: proto.Bool(t == domain.TypeVoice),
		}}
	case domain.TypeSticker:
		return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{
			Mimetype: &media.MIME, URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256,
			FileSHA256: up.FileSHA256, FileLength: &up.FileLength, ContextInfo: about, Width: size(media.Width), Height: size(media.Height),
		}}
	default:
		name := media.Filename
		if name == "" {
			name = "file"
		}
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
			Caption: nonEmpty(caption), Mimetype: &media.MIME, FileName: &name, Title: &name, URL: &up.URL, DirectPath: &up.DirectPath,
			MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256, FileSHA256: up.FileSHA256, FileLength: &up.FileLength, ContextInfo: about,
		}}
	}
}

// audioMIME names the codec of voice messages, without which phones do not play
// them.
func audioMIME(t domain.MessageType, is string) *string {
	if t == domain.TypeVoice {
		return proto.String("audio/ogg; codecs=opus")
	}
	return &is
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func size(n int) *uint32 {
	if n <= 0 {
		return nil
	}
	return proto.Uint32(uint32(min(n, 1<<20))) // #nosec G115 -- bounded
}

func (s *Session) upload(ctx context.Context, client *whatsmeow.Client, mediaID int64, kind whatsmeow.MediaType) (up whatsmeow.UploadResponse, media domain.Media, err error) {
	file, media, err := s.host.OpenMedia(ctx, mediaID)
	if err != nil {
		if domain.CodeOf(err) == domain.CodeNotFound {
			return up, media, refusal(codeMediaFailed, "The file of the message is not there any more.")
		}
		return up, media, &channel.SendError{
			Outcome: channel.NotSent, Code: codeMediaFailed, Cause: err, Message: "The file of the message could not be read; it is tried again by itself.",
		}
	}
	defer func() { _ = file.Close() }()
	encrypted, err := newScratch()
	if err != nil {
		return up, media, notUploaded(err)
	}
	defer func() { _ = encrypted.Close() }()
	up, err = client.UploadReader(ctx, file, encrypted.File, kind)
	if err != nil {
		if errors.Is(err, whatsmeow.ErrNotConnected) {
			return up, media, notConnected(err)
		}
		return up, media, notUploaded(err)
	}
	return up, media, nil
}

func notUploaded(cause error) error {
	if strings.Contains(cause.Error(), "status code 413") {
		return refusal(codeTooLarge, "The file is larger than WhatsApp takes.")
	}
	return &channel.SendError{
		Outcome: channel.NotSent, Code: codeMediaFailed, Cause: cause, Message: "WhatsApp did not take the file; it is tried again by itself.",
	}
}

// cardOf makes a vCard of a line like "Name: number, number", the form in which
// contacts are received.
func cardOf(line string, about *waE2E.ContextInfo) *waE2E.ContactMessage {
	line, _, _ = strings.Cut(line, "\n")
	name, reach, found := strings.Cut(line, ":")
	if !found {
		name, reach = line, line
	}
	escape := strings.NewReplacer(`\`, `\\`, ",", `\,`, ";", `\;`, "\r", "", "\n", " ")
	name = strings.TrimSpace(name)
	var card strings.Builder
	fmt.Fprintf(&card, "BEGIN:VCARD\nVERSION:3.0\nN:;%s;;;\nFN:%s\n", escape.Replace(name), escape.Replace(name))
	for number := range strings.SplitSeq(reach, ",") {
		number = strings.TrimSpace(number)
		switch digitsOf := strings.Map(onlyDigits, number); {
		case strings.Contains(number, "@"):
			fmt.Fprintf(&card, "EMAIL:%s\n", escape.Replace(number))
		case digitsOf != "":
			fmt.Fprintf(&card, "TEL;type=CELL;waid=%s:%s\n", digitsOf, escape.Replace(number))
		}
	}
	card.WriteString("END:VCARD")
	return &waE2E.ContactMessage{DisplayName: &name, Vcard: proto.String(card.String()), ContextInfo: about}
}

func onlyDigits(r rune) rune {
	if r >= '0' && r <= '9' {
		return r
	}
	return -1
}
