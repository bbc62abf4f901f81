package whatsapp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/domain"
)

const (
	// maxChunk is how many messages are imported in one transaction.
	maxChunk = 500
	// historyTries bounds the tries of one part in which nothing of it was stored;
	// with the waits between them they last about an hour. Then it is given up.
	historyTries   = 15
	historyTimeout = 10 * time.Minute
	// historyWait is how long a part that failed waits first, and historyWaitMax at
	// most.
	historyWait    = time.Second
	historyWaitMax = 10 * time.Minute
	// historyPatience is how often Options.RetryPatience the phone may take to
	// upload a part again: parts are large.
	historyPatience = 4
)

// codeIncomplete is of a connected channel: a part of the history is missing.
const codeIncomplete = "history_incomplete"

// history imports what the phone knew before it was linked. The phone sends
// notices of parts, which are acknowledged once they are noted with the intake's
// position; the parts are fetched and stored afterwards, in the background, and
// taken up again by the next connection where they were left. A part that fails
// waits behind the others. One that the media host does not have is asked of the
// phone once; what it does not bring, and what fails for ever, is given up and
// shown.
type history struct {
	mu      sync.Mutex // guards what follows
	loaded  bool
	parts   []part
	running bool
	percent int
	wake    chan struct{} // has a token when a part came; made with the goroutine
}

// part is a notice, and how much of it is stored.
type part struct {
	Notice []byte `json:"notice"`          // a HistorySyncNotification
	ID     string `json:"id,omitempty"`    // of the message that brought it; empty where that is not known
	Done   int    `json:"done"`            // chunks that are stored
	Tries  int    `json:"tries"`           // since a chunk was stored last
	Asked  int64  `json:"asked,omitempty"` // when the phone was asked for it again, Unix milliseconds
	Lost   bool   `json:"lost,omitempty"`  // it is given up; it stays to be shown

	fails int       // in a row, for the wait
	due   time.Time // when it is tried again
}

func encodeParts(parts []part) string {
	if len(parts) == 0 {
		return ""
	}
	raw, err := json.Marshal(parts)
	if err != nil {
		return "" // it has nothing that cannot be encoded
	}
	return string(raw)
}

// load reads what an earlier session left, once.
func (h *history) load(ctx context.Context, s *Session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loaded {
		return nil
	}
	position, err := s.intake.Position(ctx)
	if err != nil {
		return err
	}
	if position != "" && json.Unmarshal([]byte(position), &h.parts) != nil {
		s.logger.WarnContext(ctx, "what is left of the phone's history cannot be read; it is left out")
		h.parts = nil
	}
	for i, p := range h.parts {
		if p.Asked > 0 {
			h.parts[i].due = time.UnixMilli(p.Asked).Add(s.historyPatience())
		}
	}
	h.loaded = true
	return nil
}

func (s *Session) historyPatience() time.Duration { return historyPatience * s.options.RetryPatience }

// take notes a part, which came with the message id. false: it is not noted and
// must come again.
func (h *history) take(s *Session, conn *connection, id string, notice *waE2E.HistorySyncNotification) bool {
	raw, err := proto.Marshal(notice)
	if err != nil || notice.InitialHistBootstrapInlinePayload == nil && notice.GetDirectPath() == "" {
		return true // it could never be read again; or there is nothing to read, as in a notice that there is no history
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		if err = h.note(conn.ctx, s, id, raw, notice); err == nil {
			break
		}
		if time.Since(conn.began) > s.options.StoreFor {
			conn.cancel(fmt.Errorf("%w: %w", errStore, err))
		}
		if !pause(conn.ctx, wait) {
			return false
		}
	}
	h.resume(s)
	return true
}

func (h *history) note(ctx context.Context, s *Session, id string, raw []byte, notice *waE2E.HistorySyncNotification) error {
	if err := h.load(ctx, s); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// What was asked for, or given up, comes with other keys and at another place.
	next := slices.DeleteFunc(slices.Clone(h.parts), func(p part) bool { return (p.Lost || p.Asked > 0) && p.isChunk(notice) })
	if slices.ContainsFunc(next, func(p part) bool { return bytes.Equal(p.Notice, raw) }) {
		return nil
	}
	next = append(next, part{Notice: raw, ID: id})
	if err := s.intake.ReceiveBatch(ctx, domain.Batch{Position: encodeParts(next)}); err != nil {
		return err
	}
	h.parts = next
	return nil
}

// isChunk reports whether a notice is of the same part of the history.
func (p part) isChunk(notice *waE2E.HistorySyncNotification) bool {
	var own waE2E.HistorySyncNotification
	if proto.Unmarshal(p.Notice, &own) != nil {
		return false
	}
	return p.ID != "" && notice.GetOriginalMessageID() == p.ID ||
		own.GetSyncType() == notice.GetSyncType() && own.GetChunkOrder() == notice.GetChunkOrder()
}

// resume imports what is noted, in a goroutine that ends when nothing is left or
// no connection is open.
func (h *history) resume(s *Session) {
	if _, _, open := s.open(); !open {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running {
		select {
		case h.wake <- struct{}{}:
		default: // it has one already
		}
		return
	}
	if h.loaded && !slices.ContainsFunc(h.parts, part.waits) {
		return
	}
	h.running, h.wake = true, make(chan struct{}, 1)
	s.lookups.done.Go(func() { h.work(s) })
}

func (p part) waits() bool { return !p.Lost }

// work imports over one connection after the other.
func (h *history) work(s *Session) {
	for {
		h.mu.Lock()
		client, conn, open := s.open()
		if !open {
			h.running, h.percent = false, 0 // the next connection begins anew
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
		if h.run(s, client, conn) {
			_ = s.showConnected(conn) // the worker writes it later
			return
		}
	}
}

// run imports until nothing is left, or the connection has ended: then it
// returns false.
func (h *history) run(s *Session, client *whatsmeow.Client, conn *connection) (done bool) {
	for wait := historyWait; ; wait = min(2*wait, historyWaitMax) {
		err := h.load(conn.ctx, s)
		if err == nil {
			break
		}
		s.logger.WarnContext(conn.ctx, "what is left of the phone's history cannot be read yet", slogErr(err))
		if !pause(conn.ctx, jitter(wait)) {
			return false
		}
	}
	for {
		p, wait, some := h.next()
		if !some {
			return true
		}
		if wait > 0 {
			if !h.sleep(conn.ctx, wait) {
				return false
			}
			continue
		}
		err := h.importPart(s, client, conn, p)
		if conn.ctx.Err() != nil {
			return false
		}
		if err != nil {
			s.logger.WarnContext(conn.ctx, "a part of the phone's history is put off", slogErr(err))
			h.putOff(p)
		}
	}
}

// next returns the part whose turn it is, or how long to wait for one. With none
// left the goroutine counts as ended.
func (h *history) next() (p part, wait time.Duration, some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.parts {
		if !one.waits() {
			continue
		}
		left := max(time.Until(one.due), 0)
		if !some || left < wait {
			p, wait, some = one, left, true
		}
		if left == 0 {
			break
		}
	}
	if !some {
		h.running, h.percent = false, 0
	}
	return p, wait, some
}

// sleep waits, until a part comes at the latest. false: ctx has ended.
func (h *history) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-h.wake:
	case <-timer.C:
	}
	return ctx.Err() == nil
}

// putOff lets a part that failed wait, behind the others.
func (h *history) putOff(p part) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := indexOf(h.parts, p)
	if i < 0 {
		return
	}
	failed := h.parts[i]
	wait := min(historyWait<<min(failed.fails, 16), historyWaitMax)
	failed.fails, failed.due = failed.fails+1, time.Now().Add(jitter(wait))
	h.parts = append(slices.Delete(slices.Clone(h.parts), i, i+1), failed)
}

func indexOf(parts []part, p part) int {
	return slices.IndexFunc(parts, func(one part) bool { return bytes.Equal(one.Notice, p.Notice) })
}

// advance commits a chunk together with how far the import of its part has come.
// last: what the database cannot take is set aside.
func (h *history) advance(ctx context.Context, s *Session, p part, last bool, change func(*part), items ...domain.Inbound) error {
	return h.commit(ctx, s, p, last, func(parts []part, i int) []part {
		change(&parts[i])
		return parts
	}, items...)
}

func (h *history) commit(ctx context.Context, s *Session, p part, last bool, change func([]part, int) []part, items ...domain.Inbound) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := slices.Clone(h.parts)
	if i := indexOf(next, p); i >= 0 {
		next = change(next, i)
	}
	batch := domain.Batch{Position: encodeParts(next), LastTry: last}
	for _, item := range items {
		batch.Items = append(batch.Items, domain.Received{Inbound: item})
	}
	if err := s.intake.ReceiveBatch(ctx, batch); err != nil {
		return err
	}
	h.parts = next
	return nil
}

// giveUp leaves a part out, and shows that.
func (h *history) giveUp(ctx context.Context, s *Session, p part, cause error) error {
	s.logger.WarnContext(ctx, "a part of the phone's history is given up", slogErr(cause))
	return h.advance(ctx, s, p, false, func(p *part) { p.Lost = true })
}

var errTried = errors.New("it was tried often enough")

func (h *history) importPart(s *Session, client *whatsmeow.Client, conn *connection, p part) error {
	ctx, cancel := context.WithTimeout(conn.ctx, historyTimeout)
	defer cancel()
	var notice waE2E.HistorySyncNotification
	if err := proto.Unmarshal(p.Notice, &notice); err != nil {
		return h.giveUp(ctx, s, p, err)
	}
	if p.Tries >= historyTries {
		return h.giveUp(ctx, s, p, errTried)
	}
	last := p.Tries == historyTries-1
	if err := h.advance(ctx, s, p, false, func(p *part) { p.Tries++ }); err != nil {
		return err
	}
	data, err := client.DownloadHistorySync(ctx, &notice, true)
	if isGone(err) {
		return h.askAgain(ctx, s, client, p, notice.GetMediaKey(), err)
	}
	if err != nil {
		return fmt.Errorf("fetch a part of the history: %w", err)
	}
	chunks := historyChunks(data, client.ParseWebMessage, s.people(ctx))
	h.mu.Lock()
	h.percent = int(min(data.GetProgress(), 100)) // #nosec G115 -- bounded
	h.mu.Unlock()
	if err := s.showConnected(conn); err != nil {
		return err
	}
	for i, chunk := range chunks {
		if i < p.Done {
			continue
		}
		err := h.advance(ctx, s, p, last, func(p *part) { p.Done, p.Tries, p.fails = i+1, 0, 0 }, chunk...)
		if err != nil {
			return err
		}
	}
	// As the phone expects. It is not told of a part whose message is not known.
	if err := client.SendProtocolMessageReceipt(ctx, p.ID, types.ReceiptTypeHistorySync); err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.logger.InfoContext(ctx, "phone not told of a part of its history that is imported", slogErr(err))
	}
	return h.commit(ctx, s, p, false, func(parts []part, i int) []part { return slices.Delete(parts, i, i+1) })
}

// askAgain asks the phone, once, to upload a part that is gone; it answers with a
// new notice. A part whose phone did not is given up.
func (h *history) askAgain(ctx context.Context, s *Session, client *whatsmeow.Client, p part, mediaKey []byte, gone error) error {
	if p.Asked > 0 || p.ID == "" {
		return h.giveUp(ctx, s, p, gone)
	}
	if err := client.SendHistorySyncServerErrorReceipt(ctx, p.ID, mediaKey); err != nil {
		return fmt.Errorf("ask the phone for a part of the history: %w", err)
	}
	return h.advance(ctx, s, p, false, func(p *part) {
		p.Asked, p.Tries, p.due = time.Now().UnixMilli(), 0, time.Now().Add(s.historyPatience())
	})
}

// state is for people: what is being imported, or was not; empty when there is
// nothing to say.
func (h *history) state() (code, words string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.percent > 0:
		return codeHistory, fmt.Sprintf("Importing the phone's chats: %d%%.", h.percent)
	case slices.ContainsFunc(h.parts, func(p part) bool { return p.Lost }):
		return codeIncomplete, "A part of the phone's history could not be imported. New messages come and go. " +
			"To have the phone send its history once more, log the channel out and link it again."
	default:
		return "", ""
	}
}
