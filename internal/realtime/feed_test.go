package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/realtime/websocket"
	"switchboard/internal/testkit"
)

// sink is an outlet that remembers what it got.
type sink struct {
	mu     sync.Mutex // guards what follows
	seqs   []int64
	resets []syncReset
	queued int64
	stuck  bool // nothing is taken: queued only grows
}

func (s *sink) send(f *websocket.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := string(f.Payload())
	if s.stuck {
		s.queued += int64(len(text))
	}
	if data, isReset := strings.CutPrefix(text, `42["sync:reset",`); isReset {
		var r syncReset
		if err := json.Unmarshal([]byte(strings.TrimSuffix(data, "]")), &r); err != nil {
			panic(err)
		}
		s.resets = append(s.resets, r)
		return
	}
	// The whole of the frame is checked with the official client; here there are many of them.
	const mark = `,{"seq":`
	digits, _, _ := strings.Cut(text[strings.LastIndex(text, mark)+len(mark):], ",")
	seq, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		panic(err)
	}
	s.seqs = append(s.seqs, seq)
}

func (*sink) tell() {}

func (*sink) live() {}

func (s *sink) pending() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued
}

func (s *sink) got() ([]int64, []syncReset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.seqs...), append([]syncReset(nil), s.resets...)
}

func (s *sink) last() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seqs) == 0 {
		return 0
	}
	return s.seqs[len(s.seqs)-1]
}

// expect checks that exactly first..last came, in order.
func (s *sink) expect(t *testing.T, first, last int64) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("event %d", last), func() bool { return s.last() >= last })
	seqs, _ := s.got()
	want := first
	for _, seq := range seqs {
		if seq != want {
			t.Fatalf("want event %d next, got %d", want, seq)
		}
		want++
	}
	require.Equal(t, want, last+1)
}

// bench is a hub without a server.
type bench struct {
	t      *testing.T
	log    *fakeLog
	hub    *hub
	feed   *feed
	counts *counts
}

func newBench(t *testing.T, log *fakeLog, change ...func(*Limits)) *bench {
	t.Helper()
	limits := Limits{HeadsEvery: 20 * time.Millisecond, GapGrace: time.Millisecond}
	for _, c := range change {
		c(&limits)
	}
	c := newCounts()
	h := newHub(log, slog.New(slog.DiscardHandler), c.metrics().withDefaults(), limits.withDefaults())
	h.start()
	t.Cleanup(h.close)
	f, err := h.acquire(testkit.Context(t), 1)
	require.NoError(t, err)
	return &bench{t: t, log: log, hub: h, feed: f, counts: c}
}

// join attaches a member at a position and waits until the feed has done so.
func (b *bench) join(s *sink, from start) *member {
	b.t.Helper()
	m := &member{out: s}
	b.do(func(f *feed) { f.attach(m, from) })
	return m
}

// do runs a command in the feed's goroutine and waits for it.
func (b *bench) do(c command) {
	b.t.Helper()
	done := make(chan struct{})
	b.feed.post(func(f *feed) {
		c(f)
		close(done)
	})
	select {
	case <-done:
	case <-testkit.Context(b.t).Done():
		b.t.Fatal("the feed does not work on its commands")
	}
}

func TestFeedOrdersWhatRedisBrings(t *testing.T) {
	t.Parallel()
	random := testkit.Rand(t)
	for round := range 20 {
		log := newFakeLog()
		log.commitMany(1, 3)
		b := newBench(t, log)
		live, late := &sink{}, &sink{}
		b.join(live, start{seq: 3})
		events := log.commitMany(1, 200)
		// Shuffled within a window, one in five lost, one in three twice or more, some from before.
		arriving := append([]domain.Event(nil), events...)
		for i := range arriving {
			j := min(len(arriving)-1, i+random.IntN(8))
			arriving[i], arriving[j] = arriving[j], arriving[i]
		}
		for i, e := range arriving {
			if i == 100 {
				b.join(late, start{seq: int64(random.IntN(100)), epoch: testEpoch})
			}
			if random.IntN(5) == 0 {
				continue
			}
			b.hub.hear(e)
			for random.IntN(3) == 0 {
				b.hub.hear(arriving[random.IntN(i+1)])
			}
		}
		live.expect(t, 4, 203)
		testkit.Eventually(t, "the late one", func() bool { return late.last() == 203 })
		first, _ := late.got()
		late.expect(t, first[0], 203)
		if round == 0 {
			require.NotZero(t, b.counts.of("healed"))
		}
		b.hub.close()
	}
}

func TestFeedHearsOfWhatRedisNeverBrought(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	b := newBench(t, log)
	s := &sink{}
	b.join(s, start{})
	log.commitMany(1, 1700)
	s.expect(t, 1, 1700)
	// The database goes away and comes back.
	log.set(func(l *fakeLog) { l.down = errors.New("gone") })
	b.hub.hear(log.commitMany(1, 2)[1])
	testkit.Eventually(t, "a failed read", func() bool { return b.counts.of("read gap") > 4 })
	require.EqualValues(t, 1700, s.last())
	log.set(func(l *fakeLog) { l.down = nil })
	s.expect(t, 1, 1702)
}

// An event that cannot be sent does not make the feed read the log as fast as it can.
func TestPoisonInTheLog(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	b := newBench(t, log)
	s := &sink{}
	b.join(s, start{})
	log.commitMany(1, 3)
	s.expect(t, 1, 3)
	log.commitMany(1, 3)
	log.set(func(l *fakeLog) { l.events[1][4].Data = json.RawMessage("no JSON") })
	s.expect(t, 1, 4)
	before, began := b.counts.of("read gap"), time.Now()
	testkit.Eventually(t, "some reads", func() bool { return b.counts.of("read gap") >= before+3 })
	require.Greater(t, time.Since(began), 2*retryRead, "with pauses in between")
	require.EqualValues(t, 4, s.last())
	log.set(func(l *fakeLog) { l.events[1][4].Data = json.RawMessage("{}") })
	s.expect(t, 1, 6)
}

func TestReplayThenLive(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	log.commitMany(1, 1234)
	b := newBench(t, log)
	stop := make(chan struct{})
	var publisher sync.WaitGroup
	publisher.Go(func() { // live events race the replays
		for range 300 {
			b.hub.hear(log.commit(1, domain.EventMessageNew, message(1, 0)))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	sinks := map[int64]*sink{}
	for _, from := range []int64{0, 1, 499, 500, 501, 999, 1000, 1200, 1233, 1234} {
		sinks[from] = &sink{}
		b.join(sinks[from], start{seq: from, epoch: testEpoch})
	}
	publisher.Wait()
	close(stop)
	for from, s := range sinks {
		s.expect(t, from+1, 1534)
		_, resets := s.got()
		require.Empty(t, resets)
	}
}

func TestHerdSharesItsReads(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	log.commitMany(1, 5250)
	b := newBench(t, log)
	var sinks []*sink
	for range 200 {
		s := &sink{}
		sinks = append(sinks, s)
		b.feed.post(func(f *feed) { f.attach(&member{out: s}, start{seq: 250, epoch: testEpoch}) })
	}
	for _, s := range sinks {
		s.expect(t, 251, 5250)
	}
	late := &sink{}
	b.join(late, start{seq: 700})
	late.expect(t, 701, 5250)
	for page, n := range log.readCounts() {
		require.Equal(t, 1, n, "reads of page %s", page)
	}
}

func TestSlowMemberWaitsAndCatchesUp(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	log.commitMany(1, 10)
	b := newBench(t, log)
	slow, quick := &sink{stuck: true}, &sink{}
	m := b.join(slow, start{seq: 10})
	b.join(quick, start{seq: 10})
	for range 8 { // some 600 KB
		for _, e := range log.commitMany(1, 1000) {
			b.hub.hear(e)
		}
		quick.expect(t, 11, int64(len(log.events[1])))
	}
	require.Less(t, slow.pending(), int64(replayAhead+4096), "a slow socket is not sent more than it can take")
	for slow.last() < 8010 {
		slow.mu.Lock()
		slow.queued = 0
		slow.mu.Unlock()
		b.feed.drained(m)
		b.do(func(*feed) {})
	}
	slow.expect(t, 11, 8010)
	// Now it is live again.
	slow.mu.Lock()
	slow.stuck, slow.queued = false, 0
	slow.mu.Unlock()
	b.feed.drained(m)
	b.hub.hear(log.commitMany(1, 1)[0])
	slow.expect(t, 11, 8011)
}

func TestResets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from   start
		oldest int64
		reason string
	}{
		"nonsense":             {start{bad: true}, 0, "bad_position"},
		"another epoch":        {start{seq: 5, epoch: "other"}, 0, "epoch"},
		"from the future":      {start{seq: 1 << 40, epoch: testEpoch}, 0, "future"},
		"just in the future":   {start{seq: 1235, epoch: testEpoch}, 0, "future"},
		"older than the log":   {start{seq: 100, epoch: testEpoch}, 700, "retention"},
		"one event too old":    {start{seq: 698, epoch: testEpoch}, 700, "retention"},
		"the oldest there is":  {start{seq: 699, epoch: testEpoch}, 700, ""},
		"a page's middle kept": {start{seq: 705, epoch: testEpoch}, 700, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newFakeLog()
			log.commitMany(1, 1234)
			log.oldest[1] = c.oldest
			b := newBench(t, log)
			s := &sink{}
			b.join(s, c.from)
			if c.reason == "" {
				s.expect(t, c.from.seq+1, 1234)
			} else {
				testkit.Eventually(t, "sync:reset", func() bool {
					_, resets := s.got()
					return len(resets) == 1
				})
				_, resets := s.got()
				require.Equal(t, []syncReset{{Head: 1234, Epoch: testEpoch, Reason: c.reason}}, resets)
				require.Empty(t, s.seqs)
			}
			// And then everything that comes.
			b.hub.hear(log.commitMany(1, 1)[0])
			testkit.Eventually(t, "the next event", func() bool { return s.last() == 1235 })
		})
	}
}

func TestAheadOfThisNode(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	log.commitMany(1, 10)
	b := newBench(t, log, func(l *Limits) { l.HeadsEvery = time.Hour })
	log.commitMany(1, 5) // another node was told of them, this one not yet
	s, other := &sink{}, &sink{}
	b.join(other, start{seq: 10})
	b.join(s, start{seq: 13, epoch: testEpoch})
	s.expect(t, 14, 15)
	other.expect(t, 11, 15)
}

func TestLogGoesBack(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fakeLog){
		"a new epoch":              func(l *fakeLog) { l.epoch = "epoch-2" },
		"a restored log":           func(l *fakeLog) { l.epoch, l.events[1] = "epoch-2", l.events[1][:50] },
		"a restored log, no epoch": func(l *fakeLog) { l.events[1] = l.events[1][:50] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newFakeLog()
			log.commitMany(1, 100)
			b := newBench(t, log)
			var sinks []*sink
			for range 50 {
				s := &sink{}
				sinks = append(sinks, s)
				b.join(s, start{seq: 100})
			}
			log.set(change)
			for _, s := range sinks {
				testkit.Eventually(t, "sync:reset", func() bool {
					_, resets := s.got()
					return len(resets) == 1
				})
				_, resets := s.got()
				require.Equal(t, log.epoch, resets[0].Epoch)
				require.EqualValues(t, len(log.events[1]), resets[0].Head)
			}
			next := log.commitMany(1, 1)[0]
			b.hub.hear(next)
			for _, s := range sinks {
				testkit.Eventually(t, "the next event", func() bool { return s.last() == next.Seq })
				seqs, _ := s.got()
				require.Len(t, seqs, 1)
			}
		})
	}
}

func TestSeek(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	log.commitMany(1, 20)
	b := newBench(t, log)
	s := &sink{}
	m := b.join(s, start{seq: 20})
	b.do(func(f *feed) { f.seek(m, start{seq: 15}) })
	s.expect(t, 16, 20)
	b.do(func(f *feed) { f.seek(m, start{seq: 500}) }) // the future: nothing is skipped
	b.hub.hear(log.commitMany(1, 1)[0])
	s.expect(t, 16, 21)
}

func TestIdleFeedsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t, newFakeLog(), func(l *Limits) { l.FeedLinger = 10 * time.Millisecond })
	s := &sink{}
	m := b.join(s, start{})
	require.NotNil(t, b.hub.feed(1))
	b.do(func(f *feed) { f.detach(m) })
	b.hub.release(b.feed)
	testkit.Eventually(t, "the end of the feed", func() bool { return b.hub.feed(1) == nil })
	b.hub.hear(domain.Event{OrganizationID: 1, Seq: 1}) // nobody is there
}

func TestForeignAndAbsurdSignals(t *testing.T) {
	t.Parallel()
	log := newFakeLog()
	log.commitMany(1, 5)
	b := newBench(t, log)
	s := &sink{}
	b.join(s, start{seq: 5})
	b.hub.hear(domain.Event{OrganizationID: 1, Seq: 6, Epoch: "forged", Name: "x", Data: []byte(`1`)})
	b.hub.hear(domain.Event{OrganizationID: 1, Seq: 1 << 50, Epoch: testEpoch, Name: "x", Data: []byte(`1`)})
	b.hub.hear(domain.Event{OrganizationID: 1, Seq: 5, Epoch: testEpoch, Name: "x", Data: []byte(`1`)})
	for i := range 5000 { // more than may wait
		b.hub.hear(domain.Event{OrganizationID: 1, Seq: int64(100 + i), Epoch: testEpoch, Name: "x", Data: []byte(`1`)})
	}
	b.hub.hear(log.commitMany(1, 1)[0])
	s.expect(t, 6, 6)
	b.do(func(f *feed) { require.LessOrEqual(t, len(f.early), earlyLimit) })
}

func TestRingBounds(t *testing.T) {
	t.Parallel()
	r := ring{limits: Limits{RingEvents: 10, RingBytes: 1000, RingAge: time.Minute}}
	push := func(seq int64, size int, age time.Duration) {
		header := 2
		if size > 127 {
			header = 4
		}
		r.push(&frame{seq: seq, at: domain.At(time.Now().Add(-age)), wire: websocket.Text(make([]byte, max(0, size-header)))})
	}
	for seq := int64(1); seq <= 25; seq++ {
		push(seq, 10, 0)
	}
	require.EqualValues(t, 16, r.first())
	require.Nil(t, r.after(14))
	require.Len(t, r.after(15), 10)
	require.Len(t, r.after(24), 1)
	require.Nil(t, r.after(25))
	push(26, 950, 0)
	require.EqualValues(t, 21, r.first())
	require.Equal(t, 1000, r.bytes)
	r.clear()
	push(1, 1, time.Hour)
	push(2, 1, 0)
	r.expire(time.Now())
	require.EqualValues(t, 2, r.first())
	push(3, 5000, 0) // larger than the ring
	require.Nil(t, r.after(2))
	require.Zero(t, r.bytes)
}

func TestPageCacheBounds(t *testing.T) {
	t.Parallel()
	c := newPageCache(100)
	key := func(n int64) pageKey { return pageKey{1, testEpoch, n} }
	for n := range int64(5) {
		c.put(key(n), &page{start: n, bytes: 40})
	}
	require.Nil(t, c.get(key(2)))
	require.NotNil(t, c.get(key(3)))
	c.put(key(9), &page{bytes: 40})
	require.Nil(t, c.get(key(4)), "the least recently used goes first")
	require.NotNil(t, c.get(key(3)))
	c.put(pageKey{2, testEpoch, 0}, &page{bytes: 101})
	require.Nil(t, c.get(pageKey{2, testEpoch, 0}))
	c.forget(1)
	require.Zero(t, c.bytes)
	require.Zero(t, c.order.Len())
}
