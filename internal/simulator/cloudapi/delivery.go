package cloudapi

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	userAgent      = "facebookexternalua"
	endedGaveUp    = "gave_up"
	endedQueueFull = "queue_full"
)

// line delivers the webhooks of one number: first attempts in order, failed ones again by the back-off, without holding
// up the others.
type line struct {
	s      *Server
	number string

	wake chan struct{} // capacity 1: something changed
	quit chan struct{} // closed when the number is removed

	running bool // guarded by Server.mu

	mu      sync.Mutex // guards what is below
	queue   []unit     // not yet attempted
	ready   []*post    // formed from the queue, to leave next
	retries retryHeap
	pending int // units not yet acknowledged, given up or dropped
	removed bool
}

// post is one payload on its way.
type post struct {
	id       string
	units    int
	body     []byte
	messages []string
	statuses []StatusRef
	attempt  int
	first    time.Time // of the first attempt
	due      time.Time
	forms    []string // faults that formed it
}

func newLine(s *Server, number string) *line {
	return &line{s: s, number: number, wake: make(chan struct{}, 1), quit: make(chan struct{})}
}

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// enqueue adds a unit, or says ErrQueueFull.
func (l *line) enqueue(u unit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.removed {
		return ErrNotFound
	}
	if l.pending >= l.s.opts.QueueSize {
		return ErrQueueFull
	}
	u.queued = time.Now()
	l.queue = append(l.queue, u)
	l.pending++
	l.signal()
	return nil
}

func (l *line) pendingCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pending
}

func (l *line) redeliverNow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.retries {
		p.due = time.Time{}
	}
	l.signal()
}

func (l *line) remove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removed, l.pending = true, 0
	l.queue, l.ready, l.retries = nil, nil, nil
	close(l.quit)
}

// RedeliverNow makes every webhook that waits for its next attempt due at once. "" means every number.
func (s *Server) RedeliverNow(phoneNumberID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.numbers {
		if phoneNumberID == "" || id == phoneNumberID {
			n.line.redeliverNow()
		}
	}
}

func (s *Server) wakeLines() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.numbers {
		n.line.signal()
	}
}

// run delivers until the server stops or the number is removed; posts under way end before it returns.
func (l *line) run(ctx context.Context) {
	var posts sync.WaitGroup
	defer posts.Wait()
	slots := make(chan struct{}, l.s.opts.Parallel)
	for {
		select {
		case slots <- struct{}{}:
		case <-l.s.done:
			return
		case <-l.quit:
			return
		}
		p := l.await()
		if p == nil {
			return
		}
		posts.Go(func() {
			defer func() { <-slots }()
			l.attempt(ctx, p)
		})
	}
}

// await returns the next post that is due, or nil at the end.
func (l *line) await() *post {
	for {
		p, wait := l.next()
		if p != nil {
			return p
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		case <-l.s.done:
			timer.Stop()
			return nil
		case <-l.quit:
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// next pops what is due, or says how long nothing will be.
func (l *line) next() (*post, time.Duration) {
	select {
	case <-l.s.done: // nothing new begins after Close
		return nil, 0
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	wait := time.Hour
	retryDue := false
	if len(l.retries) > 0 {
		wait = min(wait, max(l.retries[0].due.Sub(now), 0))
		retryDue = wait == 0
	}
	if len(l.ready) == 0 && len(l.queue) > 0 && (!retryDue || l.queue[0].queued.Before(l.retries[0].due)) {
		wait = min(wait, l.form(now))
	}
	if len(l.ready) > 0 {
		p := l.ready[0]
		l.ready = l.ready[1:]
		return p, 0
	}
	if retryDue {
		return heap.Pop(&l.retries).(*post), 0
	}
	return nil, wait
}

// form makes ready posts of the head of the queue, or says how long to wait for more units. It needs l.mu.
func (l *line) form(now time.Time) time.Duration {
	a := about{number: l.number}
	for _, kind := range []FaultKind{FaultWebhookBatch, FaultWebhookReorder} {
		f := l.s.faults.peek(kind, a)
		if f == nil || l.queue[0].raw != nil {
			continue
		}
		if held := now.Sub(l.queue[0].queued); len(l.queue) < f.Size && held < f.Hold {
			return f.Hold - held
		}
		if f = l.s.faults.take(kind, a); f == nil {
			continue
		}
		n := 0
		for n < min(f.Size, len(l.queue)) && l.queue[n].raw == nil {
			n++
		}
		units := l.queue[:n:n]
		l.queue = l.queue[n:]
		if kind == FaultWebhookBatch {
			l.ready = append(l.ready, l.newPost(units, f.Layout, string(kind)))
			return 0
		}
		for _, u := range slices.Backward(units) {
			l.ready = append(l.ready, l.newPost([]unit{u}, "", string(kind)))
		}
		return 0
	}
	l.ready = append(l.ready, l.newPost(l.queue[:1:1], ""))
	l.queue = l.queue[1:]
	return 0
}

func (l *line) newPost(units []unit, layout string, forms ...string) *post {
	p := &post{id: l.s.ids.hex(8), units: len(units), forms: forms}
	if units[0].raw != nil {
		p.body = units[0].raw
		p.messages, p.statuses = idsIn(p.body)
		return p
	}
	for _, u := range units {
		for _, m := range u.value.Messages {
			p.messages = append(p.messages, m.ID)
		}
		for _, st := range u.value.Statuses {
			p.statuses = append(p.statuses, StatusRef{st.ID, st.Status})
		}
	}
	body, err := marshalMeta(buildEnvelope(units, layout))
	if err != nil { // contents were checked to be JSON when they came in
		panic(fmt.Sprintf("cloudapi: a webhook could not be encoded: %v", err))
	}
	p.body = body
	return p
}

// attempt posts p once (and its repeats), records it and plans what follows.
func (l *line) attempt(ctx context.Context, p *post) {
	p.attempt++
	if p.attempt == 1 {
		p.first = time.Now()
	}
	a := about{number: l.number}
	struck := slices.Clone(p.forms)
	if f := l.s.faults.take(FaultWebhookDelay, a); f != nil {
		struck = append(struck, string(f.Kind))
		if !l.pause(ctx, f.Delay, f.cleared) {
			l.finish(p, Delivery{Error: ErrClosed.Error(), Faults: struck}, true)
			return
		}
	}
	if f := l.s.faults.take(FaultWebhookDrop, a); f != nil {
		d := Delivery{Error: "lost on the way by a fault", Faults: append(struck, string(f.Kind))}
		l.finish(p, d, f.Mode != "forever")
		return
	}
	repeat := l.s.faults.take(FaultWebhookRepeat, a)
	if repeat == nil {
		l.finish(p, l.post(ctx, p, 0, struck), true)
		return
	}
	l.finish(p, l.postRepeated(ctx, p, repeat, append(struck, string(repeat.Kind))), true)
}

// postRepeated posts p and its copies and returns the delivery of the first.
func (l *line) postRepeated(ctx context.Context, p *post, f *activeFault, struck []string) Delivery {
	var first Delivery
	if !f.Parallel {
		first = l.post(ctx, p, 0, struck)
		for i := range f.Times {
			l.record(p.describe(l.post(ctx, p, i+1, struck)))
		}
		return first
	}
	var copies sync.WaitGroup
	for i := range f.Times {
		copies.Go(func() { l.record(p.describe(l.post(ctx, p, i+1, struck))) })
	}
	first = l.post(ctx, p, 0, struck)
	copies.Wait()
	return first
}

func (l *line) pause(ctx context.Context, d time.Duration, cleared <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-cleared:
	case <-ctx.Done():
		return false
	case <-l.s.done:
		return false
	}
	return true
}

// post makes one HTTP request.
func (l *line) post(ctx context.Context, p *post, repeat int, struck []string) Delivery {
	d := Delivery{Repeat: repeat, Faults: struck}
	n, ok := l.s.Number(l.number)
	if !ok || n.WebhookURL == "" {
		d.Error = "the number has no webhook address"
		return d
	}
	d.URL = n.WebhookURL
	body, signature := p.body, Sign(n.AppSecret, p.body)
	if f := l.s.faults.take(FaultWebhookSignature, about{number: l.number}); f != nil {
		d.Faults = append(slices.Clone(d.Faults), string(f.Kind))
		switch f.Mode {
		case "missing":
			signature = ""
		case "body":
			body = append(slices.Clone(body), ' ')
		default:
			signature = Sign(n.AppSecret+"-wrong", body)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.WebhookURL, bytes.NewReader(body))
	if err != nil {
		d.Error = err.Error()
		return d
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	if signature != "" {
		req.Header.Set("X-Hub-Signature-256", signature)
	}
	start := time.Now()
	resp, err := l.s.client.Do(req) // #nosec G704 -- the tester says where the webhook is
	if err != nil {
		d.Error = "no answer: " + err.Error()
	} else {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		_ = resp.Body.Close()
		d.HTTPStatus = resp.StatusCode
		d.Acked = resp.StatusCode == http.StatusOK
	}
	d.TookMS = float64(time.Since(start).Microseconds()) / 1000
	return d
}

// finish plans what follows an attempt, then records it, so that whoever the record wakes sees the plan.
func (l *line) finish(p *post, d Delivery, retry bool) {
	d = p.describe(d) // before p goes to the heap, from where another attempt may begin
	ended := p.describe(Delivery{Ended: endedGaveUp})
	gaveUp := false
	if !d.Acked {
		wait, again := l.s.opts.Backoff(p.attempt, time.Since(p.first))
		gaveUp = !retry || !again
		p.due = time.Now().Add(wait)
	}
	l.mu.Lock()
	removed := l.removed
	switch {
	case removed:
	case d.Acked || gaveUp:
		l.pending -= p.units
	default:
		heap.Push(&l.retries, p)
	}
	l.mu.Unlock()
	if removed {
		return
	}
	l.record(d)
	if gaveUp {
		l.record(ended)
	}
	l.signal()
}

// describe fills in what the delivery carried.
func (p *post) describe(d Delivery) Delivery {
	d.ID, d.Attempt, d.MessageIDs, d.Statuses, d.Bytes = p.id, p.attempt, p.messages, p.statuses, len(p.body)
	if d.Ended == "" {
		d.Payload = jsonOrNil(p.body)
	}
	return d
}

func (l *line) record(d Delivery) {
	l.s.ledger.append(Entry{Kind: KindDelivery, PhoneNumberID: l.number, Delivery: &d})
}

// tell queues a webhook for the number; what does not fit is recorded as dropped. It needs s.mu.
func (s *Server) tell(n *number, u unit) error {
	u.account = n.BusinessAccountID
	err := n.line.enqueue(u)
	if errors.Is(err, ErrQueueFull) {
		p := n.line.newPost([]unit{u}, "")
		n.line.record(p.describe(Delivery{Ended: endedQueueFull, Error: err.Error()}))
	}
	return err
}

type retryHeap []*post

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is for container/heap.
func (h *retryHeap) Push(x any) { *h = append(*h, x.(*post)) }

// Pop is for container/heap.
func (h *retryHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}
