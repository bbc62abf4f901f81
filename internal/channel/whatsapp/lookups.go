package whatsapp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"switchboard/internal/domain"
)

const (
	// maxLookups bounds who waits to be looked up; more are looked up with their
	// next message. maxLooked bounds who is remembered as looked up.
	maxLookups = 256
	maxLooked  = 4096
	// lookupEvery is the time between two: WhatsApp does not like to be asked much.
	lookupEvery   = time.Second
	lookupTimeout = 15 * time.Second
	// lookupTries bounds how often one that fails is tried by itself; after that the
	// next message tries again.
	lookupTries = 5
)

// lookups finds the names of groups and the pictures of those who write, one
// after the other, in a goroutine that lives as long as there are any.
type lookups struct {
	directory directory

	mu      sync.Mutex        // guards what follows
	looked  map[types.JID]int // how often
	queue   []types.JID
	running bool
	stopped bool
	done    sync.WaitGroup
}

// lookAt looks up the chat of a message, until it worked once in a session.
func (s *Session) lookAt(src types.MessageSource) {
	if jid := src.Chat.ToNonAD(); addressOf(jid) != "" {
		s.lookups.add(s, jid)
	}
}

func (l *lookups) add(s *Session, jid types.JID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looked[jid] > 0 {
		return
	}
	if l.looked == nil || len(l.looked) >= maxLooked {
		l.looked = map[types.JID]int{}
	}
	if l.stopped || len(l.queue) >= maxLookups {
		return
	}
	l.looked[jid] = 1
	l.queue = append(l.queue, jid)
	l.start(s)
}

// start looks up who waits, if nobody does. l.mu is held.
func (l *lookups) start(s *Session) {
	if !l.running && !l.stopped && len(l.queue) > 0 {
		l.running = true
		l.done.Go(func() { l.run(s) })
	}
}

// resume goes on with those who waited when the last connection broke.
func (l *lookups) resume(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start(s)
}

// failed has somebody looked up once more, behind the others.
func (l *lookups) failed(jid types.JID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tries := l.looked[jid]
	if l.stopped || tries == 0 || tries >= lookupTries || len(l.queue) >= maxLookups {
		delete(l.looked, jid)
		return
	}
	l.looked[jid]++
	l.queue = append(l.queue, jid)
}

// renew looks somebody up again.
func (l *lookups) renew(s *Session, jid types.JID) {
	l.mu.Lock()
	delete(l.looked, jid)
	l.mu.Unlock()
	l.add(s, jid)
}

// stop waits for the last one, which ends with its connection.
func (l *lookups) stop() {
	l.mu.Lock()
	l.stopped, l.queue = true, nil
	l.mu.Unlock()
	l.done.Wait()
}

// next is who is to be looked up now; nobody without a connection.
func (l *lookups) next(open bool) (types.JID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue = nil
	}
	if !open || l.queue == nil {
		l.running = false
		return types.EmptyJID, false
	}
	jid := l.queue[0]
	l.queue = l.queue[1:]
	return jid, true
}

func (l *lookups) run(s *Session) {
	for {
		client, conn, open := s.open()
		jid, some := l.next(open)
		if !some {
			return
		}
		ctx, cancel := context.WithTimeout(conn.wire.live, lookupTimeout)
		err := s.lookUp(ctx, client, jid)
		cancel()
		if err != nil {
			l.failed(jid)
			s.logger.DebugContext(conn.ctx, "name or picture of a chat not found out", slog.String("error_type", fmt.Sprintf("%T", err)))
		}
		pause(conn.ctx, jitter(lookupEvery))
	}
}

// unanswered is the error of a question that may be answered another time.
func unanswered(err error) error {
	var refused *whatsmeow.IQError
	if errors.As(err, &refused) && refused.Code >= 400 && refused.Code < 500 && refused.Code != 429 || errors.Is(err, whatsmeow.ErrProfilePictureNotSet) || errors.Is(err, whatsmeow.ErrProfilePictureUnauthorized) {
		return nil
	}
	return err
}

// lookUp tells the inbox what WhatsApp says of a chat. That it says nothing is no
// failure: names and pictures are a courtesy.
func (s *Session) lookUp(ctx context.Context, client *whatsmeow.Client, jid types.JID) error {
	var about domain.InboundContact
	var failed error
	if jid.Server == types.GroupServer {
		about.Peer = groupPeer(jid, "")
		info, err := client.GetGroupInfo(ctx, jid)
		if err == nil {
			about.Peer.Name = cleanName(info.Name)
		}
		failed = unanswered(err)
	} else {
		about.Peer = s.people(ctx).find(jid, types.EmptyJID).peer("")
	}
	picture, err := client.GetProfilePictureInfo(ctx, jid, &whatsmeow.GetProfilePictureParams{Preview: true})
	switch {
	case errors.Is(err, whatsmeow.ErrProfilePictureNotSet), errors.Is(err, whatsmeow.ErrProfilePictureUnauthorized):
		about.Picture = &domain.InboundPicture{}
	case err == nil && picture != nil && picture.URL != "":
		about.Picture = &domain.InboundPicture{ID: clean(picture.ID), Ref: mediaRef{URL: clean(picture.URL)}.String()}
	}
	failed = cmp.Or(failed, unanswered(err))
	if about.Peer.Address == "" || about.Peer.Name == "" && about.Picture == nil {
		return failed
	}
	return cmp.Or(failed, s.host.Receive(ctx, []domain.Inbound{{Contact: &about}}))
}
