package whatsapp

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/domain"
)

// parser reads a stored message.
type parser func(chat types.JID, m *waWeb.WebMessageInfo) (*events.Message, error)

// historyChunks turns a part into transactions of a bounded size.
func historyChunks(data *waHistorySync.HistorySync, parse parser, known people) (chunks [][]domain.Inbound) {
	var names []domain.Inbound
	for _, n := range data.GetPushnames() {
		jid, err := types.ParseJID(n.GetID())
		if err != nil {
			continue
		}
		who := known.find(jid, types.EmptyJID)
		if name := known.name(who, n.GetPushname()); name != "" && who.address() != "" {
			names = append(names, contact(who.peer(name))...)
		}
	}
	for chunk := range slices.Chunk(names, maxChunk) {
		chunks = append(chunks, chunk)
	}
	var open domain.InboundHistory
	size := 0
	flush := func() {
		if len(open.Chats) > 0 {
			chunks = append(chunks, []domain.Inbound{{History: &domain.InboundHistory{Chats: open.Chats}}})
		}
		open, size = domain.InboundHistory{}, 0
	}
	for _, conversation := range data.GetConversations() {
		chat, ok := historyChat(conversation, parse, known)
		if !ok {
			continue
		}
		items := chat.Items
		for {
			n := min(len(items), maxChunk-size)
			open.Chats = append(open.Chats, domain.InboundChat{Peer: chat.Peer, Items: items[:n]})
			size += max(n, 1)
			if items = items[n:]; size >= maxChunk {
				flush()
			}
			if len(items) == 0 {
				break
			}
		}
	}
	flush()
	return chunks
}

// historyChat converts a chat of the phone, oldest message first. ok is false
// for what is no chat of ours.
func historyChat(c *waHistorySync.Conversation, parse parser, known people) (chat domain.InboundChat, ok bool) {
	jid, err := types.ParseJID(c.GetID())
	if err != nil || addressOf(jid) == "" {
		return chat, false
	}
	if jid.Server == types.GroupServer {
		chat.Peer = groupPeer(jid, cleanName(c.GetName()))
	} else {
		other, _ := types.ParseJID(c.GetLidJID())
		if jid.Server == types.HiddenUserServer {
			other, _ = types.ParseJID(c.GetPnJID())
		}
		who := known.find(jid, other)
		chat.Peer = who.peer(known.name(who, cmp.Or(c.GetName(), c.GetDisplayName())))
	}
	for _, stored := range c.GetMessages() {
		chat.Items = append(chat.Items, historyMessage(jid, stored.GetMessage(), chat.Peer, parse, known)...)
	}
	slices.Reverse(chat.Items) // phones send the newest first
	slices.SortStableFunc(chat.Items, func(a, b domain.Inbound) int { return int(timeOfItem(a) - timeOfItem(b)) })
	return chat, len(chat.Items) > 0
}

func timeOfItem(in domain.Inbound) domain.Time {
	switch {
	case in.Message != nil:
		return in.Message.ProviderTime
	case in.Reaction != nil:
		return in.Reaction.ProviderTime
	default:
		return 0
	}
}

var errNoMessage = errors.New("no message")

// historyMessage converts a stored message and what hangs on it.
func historyMessage(chat types.JID, m *waWeb.WebMessageInfo, peer domain.Peer, parse parser, known people) (items []domain.Inbound) {
	if m.GetMessage() == nil {
		return nil // of the group, not of a person
	}
	e, err := parse(chat, m)
	if err == nil && e.Message == nil {
		err = errNoMessage
	}
	if err != nil {
		return nil
	}
	for _, in := range convert(e, known) {
		if in.Message == nil {
			continue // edits and revocations are in what the phone sends already
		}
		in.Message.Peer, in.Message.Silent = peer, true
		if in.Message.ProviderTime == 0 {
			continue
		}
		if in.Message.FromMe {
			in.Message.Status = historyStatus(m.GetStatus())
		}
		items = append(items, in)
	}
	for _, r := range m.GetReactions() {
		reaction := domain.InboundReaction{
			Peer: peer, FromMe: r.GetKey().GetFromMe(), TargetExternalID: clean(e.Info.ID), Emoji: cut(clean(r.GetText()), 32),
			ProviderTime: domain.At(time.UnixMilli(r.GetSenderTimestampMS())),
		}
		if author, err := types.ParseJID(r.GetKey().GetParticipant()); err == nil && chat.Server == types.GroupServer && !reaction.FromMe {
			who := known.find(author, types.EmptyJID)
			reaction.Sender = who.peer(known.name(who, ""))
		}
		items = append(items, domain.Inbound{Reaction: &reaction})
	}
	return items
}

func historyStatus(s waWeb.WebMessageInfo_Status) domain.MessageStatus {
	switch s {
	case waWeb.WebMessageInfo_DELIVERY_ACK:
		return domain.StatusDelivered
	case waWeb.WebMessageInfo_READ, waWeb.WebMessageInfo_PLAYED:
		return domain.StatusRead
	default:
		return domain.StatusSent
	}
}
