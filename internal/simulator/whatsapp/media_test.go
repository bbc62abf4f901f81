package whatsapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func TestMediaOfEveryType(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	for _, typ := range []string{TypeImage, TypeVideo, TypeAudio, TypeVoice, TypeDocument, TypeSticker, TypeViewOnce} {
		id := b.says(Incoming{From: marta, Type: typ, Caption: "see"})
		m := c.message(id)
		media, _, _ := mediaOf(unwrap(m.Message))
		require.NotNil(t, media, typ)
		data, err := c.Download(b.ctx, media)
		require.NoError(t, err, typ)
		require.Len(t, data, int(media.GetFileLength()), typ)
		all := b.chat(marta)
		shown, err := b.MediaData(all[len(all)-1].Media.File)
		require.NoError(t, err)
		require.Equal(t, data, shown)
	}
}

func TestMediaUp(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	data := []byte("%PDF-1.4 an invoice")
	b.fault(Fault{Kind: FaultUploadRefuse, Count: 1})
	_, err := c.Upload(b.ctx, data, whatsmeow.MediaDocument)
	require.Error(t, err)
	up, err := c.Upload(b.ctx, data, whatsmeow.MediaDocument)
	require.NoError(t, err)
	_, err = c.SendMessage(b.ctx, pnJID(marta), &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
		URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256, FileSHA256: up.FileSHA256,
		FileLength: &up.FileLength, FileName: proto.String("invoice.pdf"), Mimetype: proto.String("application/pdf"), Caption: proto.String("here"),
	}})
	require.NoError(t, err)
	got := b.chat(marta)[0]
	require.Equal(t, TypeDocument, got.Type)
	require.Equal(t, "here", got.Caption)
	require.Equal(t, "invoice.pdf", got.Media.Filename)
	read, err := b.MediaData(got.Media.File)
	require.NoError(t, err)
	require.Equal(t, data, read)
}

func TestMediaGoneAndRetried(t *testing.T) {
	b := start(t)
	c := b.link(shop)
	id := b.says(Incoming{From: marta, Type: TypeImage})
	m := c.message(id)
	image := m.Message.GetImageMessage()
	b.fault(Fault{Kind: FaultMediaGone, Count: 1, Code: 410})
	_, err := c.Download(b.ctx, image)
	require.ErrorIs(t, err, whatsmeow.ErrMediaDownloadFailedWith410)
	require.NoError(t, c.SendMediaRetryReceipt(b.ctx, &m.Info, image.GetMediaKey()))
	e := find(c, any1[*events.MediaRetry])
	note, err := whatsmeow.DecryptMediaRetryNotification(e, image.GetMediaKey())
	require.NoError(t, err)
	require.Equal(t, waMmsRetry.MediaRetryNotification_SUCCESS, note.GetResult())
	image.DirectPath = note.DirectPath
	_, err = c.Download(b.ctx, image)
	require.NoError(t, err)
	c.forget()
	b.fault(Fault{Kind: FaultNoMediaRetry, Count: 1})
	require.NoError(t, c.SendMediaRetryReceipt(b.ctx, &m.Info, image.GetMediaKey()))
	_, err = whatsmeow.DecryptMediaRetryNotification(find(c, any1[*events.MediaRetry]), image.GetMediaKey())
	require.ErrorIs(t, err, whatsmeow.ErrMediaNotAvailableOnPhone)
	b.fault(Fault{Kind: FaultMediaCorrupt, Count: 1})
	_, err = c.Download(b.ctx, image)
	require.Error(t, err)
}

func TestHistory(t *testing.T) {
	b := start(t)
	at := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	chats := []HistoryChat{
		{Peer: marta, Messages: []HistoryMessage{{Text: "old", At: at}, {Text: "older answer", FromMe: true, At: at.Add(time.Hour)}}},
		{Peer: crowd, Name: "Crowd", Messages: []HistoryMessage{{Text: "in the group", From: tomas, At: at}}},
		{Peer: aiko, Messages: []HistoryMessage{{Text: "hidden", At: at}}},
	}
	for i := range 30 { // so that there are several chunks
		number := "1555030" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + "00"
		_, err := b.AddPerson(Person{Number: number, Name: "P" + number})
		require.NoError(t, err)
		chats = append(chats, HistoryChat{Peer: number, Messages: []HistoryMessage{{Text: "hi", At: at}}})
	}
	require.NoError(t, b.History(shop, chats))
	c := b.link(shop)
	first := find(c, func(h *events.HistorySync) bool {
		return h.Data.GetSyncType() == waHistorySync.HistorySync_INITIAL_BOOTSTRAP
	})
	require.Len(t, first.Data.GetConversations(), len(chats))
	names := find(c, func(h *events.HistorySync) bool { return h.Data.GetSyncType() == waHistorySync.HistorySync_PUSH_NAME })
	require.Len(t, names.Data.GetPushnames(), len(chats)-1)
	last := find(c, func(h *events.HistorySync) bool {
		return h.Data.GetSyncType() == waHistorySync.HistorySync_RECENT && h.Data.GetProgress() == 100
	})
	require.Equal(t, uint32(2), last.Data.GetChunkOrder())
	recent := find(c, func(h *events.HistorySync) bool { return h.Data.GetSyncType() == waHistorySync.HistorySync_RECENT })
	conv := recent.Data.GetConversations()[0]
	m, err := c.ParseWebMessage(pnJID(marta), conv.GetMessages()[1].GetMessage())
	require.NoError(t, err)
	require.Equal(t, "old", m.Message.GetConversation())
	require.Equal(t, at.Unix(), m.Info.Timestamp.Unix())
	b.idle()
}
