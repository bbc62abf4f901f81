package whatsapp

import (
	"bytes"
	"compress/zlib"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"google.golang.org/protobuf/proto"
)

// HistoryChat is a chat that a phone has from before a device was linked.
type HistoryChat struct {
	Peer     string           `json:"peer"` // number of a person, or a Group.ID
	Name     string           `json:"name,omitempty"`
	Unread   int              `json:"unread,omitempty"`
	Messages []HistoryMessage `json:"messages"` // oldest first
}

// HistoryMessage is an old text.
type HistoryMessage struct {
	ID     string    `json:"id,omitempty"`
	FromMe bool      `json:"fromMe,omitempty"`
	From   string    `json:"from,omitempty"` // who wrote, in a group
	Text   string    `json:"text"`
	At     time.Time `json:"at,omitzero"`
}

// historyChunk is how many chats the phone sends at a time.
const historyChunk = 20

// History sets what the phone sends to devices that are linked from now on: INITIAL_BOOTSTRAP with the newest message of
// each chat, PUSH_NAME, and RECENT with everything, in chunks of 20 chats.
func (s *Server) History(number string, chats []HistoryChat) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	kept := slices.Clone(chats)
	for i, c := range kept {
		if s.people[c.Peer] == nil && s.groups[c.Peer] == nil {
			return fmt.Errorf("person or group %s: %w", c.Peer, ErrNotFound)
		}
		kept[i].Messages = slices.Clone(c.Messages)
		for j := range kept[i].Messages {
			s.completeHistory(&kept[i].Messages[j])
		}
	}
	p.history = kept
	s.changedLocked()
	return nil
}

// HistoryOf is the history that was set.
func (s *Server) HistoryOf(number string) ([]HistoryChat, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return nil, err
	}
	return append([]HistoryChat{}, p.history...), nil // its messages never change
}

func (s *Server) completeHistory(m *HistoryMessage) {
	if m.ID == "" {
		m.ID = messageID()
	}
	if m.At.IsZero() {
		m.At = s.opts.Now().Add(-24 * time.Hour)
	}
}

// SyncHistory sends the history now to every device that is linked.
func (s *Server) SyncHistory(number string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.findPhone(number)
	if err != nil {
		return err
	}
	for _, d := range p.devices {
		s.sendHistoryLocked(d)
	}
	return nil
}

// welcomeLocked is what the phone tells a device that was just linked.
func (s *Server) welcomeLocked(d *device) {
	state, err := s.appStateLocked(d.phone)
	if err != nil {
		s.log.Error("the app state could not be made", slogErr(err))
		return
	}
	s.tellLocked(d, state.keyShare(s.opts.Now().Unix()))
	s.sendHistoryLocked(d)
}

// tellLocked is a peer message of the phone to one of its devices.
func (s *Server) tellLocked(d *device, m *waE2E.ProtocolMessage) {
	o := &outgoing{
		id: messageID(), typ: "peer", from: d.phone.Number, chat: d.phone.Number, peer: true, at: s.opts.Now(), actor: d.phone.actor,
		name: d.phone.Name, message: &waE2E.Message{ProtocolMessage: m},
	}
	d.phone.outbox.put(o)
	plaintext, err := proto.Marshal(o.message)
	if err == nil {
		var encs []waBinary.Node
		if encs, err = s.directEncs(o, d, plaintext); err == nil {
			s.queueMessageLocked(d, o, encs)
		}
	}
	if err != nil {
		s.log.Error("the phone could not write to its device", slogErr(err))
	}
}

func (s *Server) sendHistoryLocked(d *device) {
	p := d.phone
	if len(p.history) == 0 {
		return
	}
	newest := make([]*waHistorySync.Conversation, 0, len(p.history))
	whole := make([]*waHistorySync.Conversation, 0, len(p.history))
	for _, c := range p.history {
		whole = append(whole, s.conversation(p, c, c.Messages))
		newest = append(newest, s.conversation(p, c, c.Messages[max(len(c.Messages)-1, 0):]))
	}
	s.historyLocked(d, &waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_INITIAL_BOOTSTRAP.Enum(), Conversations: newest, ChunkOrder: proto.Uint32(0),
		Progress: proto.Uint32(0), PhoneNumberToLidMappings: s.historyNames(p),
	}, true)
	s.historyLocked(d, s.pushNames(p), false)
	chunks := slices.Collect(slices.Chunk(whole, historyChunk))
	for i, chunk := range chunks {
		s.historyLocked(d, &waHistorySync.HistorySync{
			SyncType: waHistorySync.HistorySync_RECENT.Enum(), Conversations: chunk, ChunkOrder: proto.Uint32(uint32(i + 1)), // #nosec G115 -- few
			Progress: proto.Uint32(uint32((i + 1) * 100 / len(chunks))), // #nosec G115 -- at most 100
		}, false)
	}
}

func (s *Server) conversation(p *phone, c HistoryChat, messages []HistoryMessage) *waHistorySync.Conversation {
	mode := s.modeOf(p, c.Peer)
	jid, _ := s.names(c.Peer, mode)
	if g := s.groups[c.Peer]; g != nil {
		mode, jid = g.AddressingMode, groupJID(c.Peer)
	}
	out := &waHistorySync.Conversation{ID: proto.String(jid.String()), UnreadCount: proto.Uint32(uint32(max(c.Unread, 0)))} // #nosec G115 -- a count
	if c.Name != "" {
		out.Name = &c.Name
	}
	for i := len(messages) - 1; i >= 0; i-- { // newest first, as phones send them
		m := messages[i]
		key := &waCommon.MessageKey{RemoteJID: proto.String(jid.String()), FromMe: &m.FromMe, ID: &m.ID}
		web := &waWeb.WebMessageInfo{
			Key: key, Message: &waE2E.Message{Conversation: &m.Text}, MessageTimestamp: proto.Uint64(uint64(m.At.Unix())), // #nosec G115 -- after 1970
			Status: waWeb.WebMessageInfo_READ.Enum(),
		}
		if jid.Server == types.GroupServer && !m.FromMe && m.From != "" {
			author, _ := s.names(m.From, mode)
			key.Participant, web.Participant = proto.String(author.String()), proto.String(author.String())
		}
		out.Messages = append(out.Messages, &waHistorySync.HistorySyncMsg{Message: web, MsgOrderID: proto.Uint64(uint64(i + 1))}) // #nosec G115 -- an index
	}
	if len(messages) > 0 {
		out.ConversationTimestamp = proto.Uint64(uint64(messages[len(messages)-1].At.Unix())) // #nosec G115 -- after 1970
	}
	return out
}

func (s *Server) historyNames(p *phone) []*waHistorySync.PhoneNumberToLIDMapping {
	var out []*waHistorySync.PhoneNumberToLIDMapping
	for _, c := range p.history {
		if who := s.people[c.Peer]; who != nil && !who.HideNumber {
			out = append(out, &waHistorySync.PhoneNumberToLIDMapping{
				PnJID: proto.String(pnJID(c.Peer).String()), LidJID: proto.String(lidJID(who.LID).String()),
			})
		}
	}
	return out
}

func (s *Server) pushNames(p *phone) *waHistorySync.HistorySync {
	h := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_PUSH_NAME.Enum()}
	for _, c := range p.history {
		if who := s.people[c.Peer]; who != nil {
			jid, _ := s.names(c.Peer, s.modeOf(p, c.Peer))
			h.Pushnames = append(h.Pushnames, &waHistorySync.Pushname{ID: proto.String(jid.String()), Pushname: proto.String(who.Name)})
		}
	}
	return h
}

// historyLocked sends a part of the history, in the message itself or by the media host.
func (s *Server) historyLocked(d *device, h *waHistorySync.HistorySync, inline bool) {
	raw, err := proto.Marshal(h)
	if err != nil {
		s.log.Error("the history could not be written", slogErr(err))
		return
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, _ = z.Write(raw)
	_ = z.Close()
	kind := waE2E.HistorySyncType(waE2E.HistorySyncType_value[strings.ToUpper(h.GetSyncType().String())])
	n := &waE2E.HistorySyncNotification{
		SyncType: &kind, ChunkOrder: h.ChunkOrder, Progress: h.Progress, FileLength: proto.Uint64(uint64(packed.Len())), // #nosec G115 -- a length
	}
	if inline {
		n.InitialHistBootstrapInlinePayload = packed.Bytes()
	} else {
		f, err := s.media.store(whatsmeow.MediaHistory, packed.Bytes())
		if err != nil {
			s.log.Error("the history could not be stored", slogErr(err))
			return
		}
		n.DirectPath, n.MediaKey, n.FileSHA256, n.FileEncSHA256 = &f.path, f.key, f.sum, f.enc
	}
	s.tellLocked(d, &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum(), HistorySyncNotification: n})
}

// mediaRetryLocked is a client that finds a file gone: the phone puts it on the media host again, if it still has it.
func (s *Server) mediaRetryLocked(d *device, node *waBinary.Node, id string) {
	rmr, ok := node.GetOptionalChildByTag("rmr")
	if !ok {
		return
	}
	note := waBinary.Node{Tag: "error", Attrs: waBinary.Attrs{"code": 2}}
	if o := d.phone.outbox.byID[id]; o != nil && s.faults.take(FaultNoMediaRetry, d.phone.Number, o.chat) == nil {
		if media, _, _ := mediaOf(unwrap(o.message)); media != nil {
			if again, err := s.uploadAgain(id, media); err == nil {
				note = again
			}
		}
	}
	attrs := waBinary.Attrs{"from": pnJID(d.phone.Number), "type": "mediaretry", "id": id, "t": s.opts.Now().Unix()}
	s.enqueueLocked(d, &queued{class: classNotification, id: id, node: waBinary.Node{Tag: "notification", Attrs: attrs, Content: []waBinary.Node{
		{Tag: "rmr", Attrs: rmr.Attrs}, note,
	}}})
}

func (s *Server) uploadAgain(id string, media downloadable) (waBinary.Node, error) {
	sealed, ok := s.media.get(media.GetDirectPath())
	if !ok {
		return waBinary.Node{}, ErrNotFound
	}
	sum := sha256.Sum256(random(8))
	path := fmt.Sprintf("/v/t62.7118-24/re-%x", sum[:12])
	s.media.put(path, sealed)
	plain, err := proto.Marshal(&waMmsRetry.MediaRetryNotification{
		StanzaID: &id, DirectPath: proto.String(path + "?ccb=11-4&oh=sim&oe=sim&_nc_sid=sim"),
		Result: waMmsRetry.MediaRetryNotification_SUCCESS.Enum(),
	})
	if err != nil {
		return waBinary.Node{}, err
	}
	iv := random(12)
	key := hkdfutil.SHA256(media.GetMediaKey(), nil, []byte("WhatsApp Media Retry Notification"), 32)
	content, err := gcmutil.Encrypt(key, iv, plain, []byte(id))
	return waBinary.Node{Tag: "encrypt", Content: []waBinary.Node{{Tag: "enc_p", Content: content}, {Tag: "enc_iv", Content: iv}}}, err
}

// peerRequest is a device that asks the phone for something: a message that it could not read.
func (s *Server) peerRequest(m *sending) {
	req := m.phoneRead.GetProtocolMessage().GetPeerDataOperationRequestMessage()
	if req.GetPeerDataOperationRequestType() != waE2E.PeerDataOperationRequestType_PLACEHOLDER_MESSAGE_RESEND {
		return
	}
	var results []*waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult
	for _, ask := range req.GetPlaceholderMessageResendRequest() {
		o := m.device.phone.outbox.byID[ask.GetMessageKey().GetID()]
		if o == nil || !o.absent {
			continue // devices ask for everything that they cannot read; who wrote it answers the retry receipt
		}
		web, err := proto.Marshal(&waWeb.WebMessageInfo{
			Key: ask.GetMessageKey(), Message: o.message, MessageTimestamp: proto.Uint64(uint64(o.at.Unix())), // #nosec G115 -- after 1970
			PushName: &o.name,
		})
		if err == nil {
			results = append(results, &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult{
				PlaceholderMessageResendResponse: &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult_PlaceholderMessageResendResponse{
					WebMessageInfoBytes: web,
				},
			})
		}
	}
	if len(results) > 0 {
		s.tellLocked(m.device, &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE.Enum(),
			PeerDataOperationRequestResponseMessage: &waE2E.PeerDataOperationRequestResponseMessage{
				StanzaID: &m.id, PeerDataOperationRequestType: req.PeerDataOperationRequestType, PeerDataOperationResult: results,
			},
		})
	}
}
