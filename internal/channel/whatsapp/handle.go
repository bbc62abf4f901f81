package whatsapp

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"switchboard/internal/domain"
)

// handle takes what the library tells. For a message, false means that it is not
// stored: then it is not acknowledged. The library would take a panic for
// success, so it must not see one.
func (s *Session) handle(conn *connection, evt any) (stored bool) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("handler panicked", slog.String("event", fmt.Sprintf("%T", evt)), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			conn.cancel(fmt.Errorf("panic while handling a %T: %v", evt, p))
			stored = false
		}
	}()
	if conn.ctx.Err() != nil {
		return false
	}
	if cause := downOf(evt); cause != nil {
		conn.end(cause)
		return true
	}
	if _, is := evt.(*events.Connected); is {
		conn.open()
		return true
	}
	if s.leaving {
		return false // it is for a channel that is deleted
	}
	switch e := evt.(type) {
	case *events.Message:
		return s.message(conn, e)
	case *events.UndecryptableMessage:
		return s.unreadable(conn, e)
	case *events.Receipt:
		return s.store(conn, receipt(e, s.people(conn.ctx)))
	case *events.ChatPresence:
		s.customerTyping(conn, e)
	case *events.MediaRetry:
		s.retries.answer(e)
	case *events.NotifyAccountReachoutTimelock:
		s.reachOut(conn, e)
	case *events.PushNameSetting, *events.AppStateSyncComplete:
		s.presence.named() // the number's own name may be known now
	default:
		return s.store(conn, s.news(conn, evt))
	}
	return true
}

// people is what is known of those who write.
type people interface {
	// find gives the other address of a person, if it is known.
	find(jid, other types.JID) person
	// name is what the phone's address book calls somebody, or else what they
	// call themselves.
	name(p person, own string) string
}

// addressBook is the people of a connection. What cannot be looked up now is
// taken as unknown; the database's failure ends the connection by itself.
type addressBook struct {
	ctx    context.Context //nolint:containedctx // the connection's life
	device *store.Device
}

func (s *Session) people(ctx context.Context) people {
	s.mu.Lock()
	defer s.mu.Unlock()
	return addressBook{ctx: ctx, device: s.client.Store}
}

func (b addressBook) find(jid, other types.JID) person {
	p := personOf(jid, other)
	if known, ok := b.device.LIDs.(*lids); ok && !p.both() {
		if full, err := known.complete(b.ctx, p); err == nil {
			return full
		}
	}
	return p
}

func (b addressBook) name(p person, own string) string {
	if b.device.Contacts == nil {
		return cleanName(own)
	}
	for _, jid := range []types.JID{p.pn, p.lid} {
		if jid.IsEmpty() {
			continue
		}
		if c, err := b.device.Contacts.GetContact(b.ctx, jid); err == nil && c.FullName != "" {
			return cleanName(c.FullName)
		}
	}
	return cleanName(own)
}

func (s *Session) message(conn *connection, e *events.Message) (taken bool) {
	if notice := e.Message.GetProtocolMessage().GetHistorySyncNotification(); notice != nil && e.Info.IsFromMe {
		return s.history.take(s, conn, e.Info.ID, notice)
	}
	known, key := s.people(conn.ctx), poisonKey(s.name, &e.Info)
	var instead []domain.Inbound
	if s.clients.poison.tries(key) >= poisonTries {
		instead = unshowable(e, known)
	}
	vain := true // until it is known better: a panic ends it here
	defer func() { s.clients.poison.note(key, taken, vain) }()
	items := s.converted(e, known, instead)
	if taken, vain = s.storeOr(conn, items, instead); taken && len(items) > 0 {
		s.lookAt(e.Info.MessageSource) // not before there is a chat: keys come in messages of their own
	}
	return taken
}

// store hands items to the inbox, with what was learned of people before them.
// It tries for a while: WhatsApp brings the same again only to a new connection.
func (s *Session) store(conn *connection, items []domain.Inbound) bool {
	stored, _ := s.storeOr(conn, items, nil)
	return stored
}

// storeOr stores, if items fail for as long, what stands in their place. vain: they
// did fail for as long.
func (s *Session) storeOr(conn *connection, items, instead []domain.Inbound) (stored, vain bool) {
	learned := s.pairs.take()
	if items = append(learned, items...); len(items) == 0 {
		return true, false
	}
	deadline := time.Now().Add(s.options.StoreFor)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := s.host.Receive(conn.ctx, items)
		if err == nil {
			return true, false
		}
		late := conn.ctx.Err() == nil && time.Now().Add(wait).After(deadline)
		if late && instead != nil && s.inPlace(conn, items, instead) {
			s.pairs.putBack(learned)
			return true, false
		}
		if late && conn.ctx.Err() == nil {
			vain = true
			conn.cancel(fmt.Errorf("%w: %w", errStore, err))
		}
		if conn.ctx.Err() != nil {
			s.pairs.putBack(learned)
			return false, vain
		}
		s.logger.WarnContext(conn.ctx, "what came in cannot be stored yet", slogErr(err))
		if !pause(conn.ctx, wait/2+rand.N(wait/2)) { // #nosec G404 -- spreads load, guards nothing
			s.pairs.putBack(learned)
			return false, false
		}
	}
}

// inPlace tries items once more, now that the database is seen to write, and
// stores what stands in their place if it is they that fail.
func (s *Session) inPlace(conn *connection, items, instead []domain.Inbound) bool {
	if s.host.SetStatus(conn.ctx, domain.ChannelConnected, codeStorage, "A message cannot be stored; it is tried once more.") != nil {
		return false
	}
	err := s.host.Receive(conn.ctx, items)
	if err != nil && s.host.Receive(conn.ctx, instead) != nil {
		return false
	}
	if err != nil {
		s.logger.ErrorContext(conn.ctx, "a message cannot be stored, again and again; a line stands in its place", slogErr(err))
	}
	_ = s.showConnected(conn) // the worker writes it later
	return true
}

// pause waits; false once ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// news are the events that tell of people and groups.
func (s *Session) news(conn *connection, evt any) []domain.Inbound {
	known := s.people(conn.ctx)
	named := func(jid, other types.JID, name string) []domain.Inbound {
		if p := known.find(jid, other); p.address() != "" && name != "" {
			return contact(p.peer(name))
		}
		return nil
	}
	switch e := evt.(type) {
	case *events.PushName:
		if e.Message == nil { // else the message itself tells it
			return named(e.JID, e.JIDAlt, known.name(known.find(e.JID, e.JIDAlt), e.NewPushName))
		}
	case *events.BusinessName:
		return named(e.JID, types.EmptyJID, known.name(known.find(e.JID, types.EmptyJID), e.NewBusinessName))
	case *events.Contact:
		return named(e.JID, types.EmptyJID, cleanName(e.Action.GetFullName()))
	case *events.JoinedGroup:
		s.lookups.add(s, e.JID)
		return contact(groupPeer(e.JID, cleanName(e.Name)))
	case *events.GroupInfo:
		return groupNews(e, known)
	case *events.Picture:
		s.lookups.renew(s, e.JID)
	case *events.CallOffer:
		return call(e.BasicCallMeta, "A call", known)
	case *events.CallOfferNotice:
		return call(e.BasicCallMeta, "A "+e.Media+" call", known)
	}
	return nil
}

func contact(peer domain.Peer) []domain.Inbound {
	return []domain.Inbound{{Contact: &domain.InboundContact{Peer: peer}}}
}

// call is a line that says that somebody called: calls are answered on the
// phone.
func call(meta types.BasicCallMeta, what string, known people) []domain.Inbound {
	caller := known.find(meta.CallCreator, meta.CallCreatorAlt)
	if caller.address() == "" || !meta.GroupJID.IsEmpty() {
		return nil
	}
	return []domain.Inbound{{Message: &domain.InboundMessage{
		ExternalID: "call:" + meta.CallID, Peer: caller.peer(""), Type: domain.TypeSystem,
		Content: what + " from this contact. Calls can be answered on the phone only.", ProviderTime: domain.At(meta.Timestamp),
	}}}
}

// groupNews are changes of a group that operators should see.
func groupNews(e *events.GroupInfo, known people) []domain.Inbound {
	name := ""
	if e.Name != nil {
		name = cleanName(e.Name.Name)
	}
	peer := groupPeer(e.JID, name)
	if peer.Address == groupSuffix {
		return nil
	}
	var lines []string
	if name != "" {
		lines = append(lines, "The group's name is now “"+name+"”.")
	}
	count := func(jids []types.JID, one, many string) {
		switch len(jids) {
		case 0:
		case 1:
			lines = append(lines, one)
		default:
			lines = append(lines, fmt.Sprintf(many, len(jids)))
		}
	}
	count(e.Join, "Somebody joined the group.", "%d people joined the group.")
	count(e.Leave, "Somebody left the group.", "%d people left the group.")
	items := contact(peer)
	if name == "" {
		items = nil
	}
	for i, line := range lines {
		items = append(items, domain.Inbound{Message: &domain.InboundMessage{
			ExternalID: fmt.Sprintf("group:%d:%d:%s", e.Timestamp.Unix(), i, e.ParticipantVersionID), Peer: groupPeer(e.JID, ""), Type: domain.TypeSystem,
			Content: line, ProviderTime: domain.At(e.Timestamp), Silent: true,
		}})
	}
	return items
}

func (s *Session) customerTyping(conn *connection, e *events.ChatPresence) {
	if e.IsFromMe {
		return
	}
	known := s.people(conn.ctx)
	who := known.find(e.Sender, e.SenderAlt).address()
	peer, sender := who, ""
	if e.IsGroup {
		peer, sender = addressOf(e.Chat), who
	}
	if peer != "" {
		s.host.Typing(conn.ctx, peer, sender, e.State == types.ChatPresenceComposing)
	}
}

// reachOut takes what WhatsApp tells of its limit on new chats.
func (s *Session) reachOut(conn *connection, e *events.NotifyAccountReachoutTimelock) {
	switch ends := e.TimeEnforcementEnds.Time; {
	case !e.IsActive:
		s.limit(conn, time.Time{})
	case ends.After(time.Now()):
		s.limit(conn, ends)
	default:
		s.limit(conn, time.Now().Add(reachOutWait))
	}
}
