package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// script is a WebSocket server that greets a client as Socket.IO does, sends it what the test wants and at last a ping. Whoever
// has answered that has taken all before it.
type script struct {
	texts    []string
	refuse   atomic.Int32 // handshakes that are refused first
	answered chan struct{}

	mu       sync.Mutex // guards what follows
	connects []string
	waiting  int // clients whose answer to the last ping is due
}

// lastPing is what the server says last. The client answers it as it does the pings among the texts, so they are counted.
const lastPing = "2"

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refuse.Add(-1) >= 0 {
		http.Error(w, "come again", http.StatusServiceUnavailable)
		return
	}
	conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	say := func(text string) { _ = conn.WriteMessage(websocket.TextMessage, []byte(text)) }
	say(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000}`)
	_, connect, err := conn.ReadMessage()
	if err != nil {
		return
	}
	s.mu.Lock()
	s.connects = append(s.connects, string(connect))
	s.mu.Unlock()
	say(`40{"sid":"y"}`)
	pongs := 1
	for _, text := range s.texts {
		if text == lastPing {
			pongs++
		}
		say(text)
	}
	say(lastPing)
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if string(text) != "3" {
			continue
		}
		if pongs--; pongs == 0 {
			s.mu.Lock()
			if s.waiting--; s.waiting == 0 {
				close(s.answered)
			}
			s.mu.Unlock()
		}
	}
}

func newScript(t *testing.T, clients int, texts ...string) (*script, string) {
	t.Helper()
	s := &script{texts: texts, answered: make(chan struct{}), waiting: clients}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, strings.TrimPrefix(server.URL, "http://")
}

func eventOf(seq int, made time.Time) string {
	return fmt.Sprintf(`42["message:new",{"id":1,"content":"@%d hello"},{"seq":%d,"epoch":"e","at":"2026-01-01T00:00:00.000Z"}]`, made.UnixMicro(), seq)
}

// loaded runs the load in this process until the script is through or a client is gone.
func loaded(t *testing.T, s *script, order fanOrder, question fanQuestion) (joined fanJoined, last fanProgress, result fanResult) {
	t.Helper()
	ctx := testkit.Context(t)
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := fanLoad(ctx, inRead, outWrite)
		_ = outWrite.Close()
		ended <- err
	}()
	in, out := json.NewEncoder(inWrite), json.NewDecoder(outRead)
	require.NoError(t, in.Encode(order))
	var ask sync.Once
	asked := make(chan struct{})
	end := func() {
		ask.Do(func() {
			_ = in.Encode(question)
			_ = inWrite.Close()
			close(asked)
		})
	}
	go func() {
		select {
		case <-s.answered:
			end()
		case <-asked:
		}
	}()
	for {
		var report fanReport
		if err := out.Decode(&report); err != nil {
			require.ErrorIs(t, err, io.EOF)
			require.NoError(t, <-ended)
			return joined, last, result
		}
		switch {
		case report.Joined != nil:
			joined = *report.Joined
		case report.Progress != nil:
			if last = *report.Progress; last.Gone > 0 {
				go end()
			}
		case report.Result != nil:
			result = *report.Result
		}
	}
}

func TestTheLoadSeesWhatIsWrong(t *testing.T) {
	now := time.Now()
	event := func(seq int) string { return eventOf(seq, now) }
	for name, c := range map[string]struct {
		texts []string
		fault string // that the check finds; empty: none
	}{
		"all is well":      {[]string{event(8), "2", event(9), event(10)}, ""},
		"one is lost":      {[]string{event(8), event(10)}, "1 were left out"},
		"the last is lost": {[]string{event(8), event(9)}, "3 deliveries were due and 2 were made"},
		"one comes twice":  {[]string{event(8), event(9), event(9), event(10)}, "1 came twice"},
		"two are swapped":  {[]string{event(9), event(8), event(10)}, "1 were left out, 1 came twice or late"},
		"an old one":       {[]string{event(7), event(8), event(9), event(10)}, "1 came twice or late"},
		"no seq":           {[]string{event(8), event(9), event(10), `42["sync:reset",{"head":10}]`}, "1 connections ended"},
		"no stamp":         {[]string{event(8), event(9), `42["message:new",{},{"seq":10}]`}, "1 connections ended"},
		"a disconnection":  {[]string{event(8), event(9), event(10), "41"}, "1 connections ended"},
		"binary":           {[]string{event(8), event(9), event(10), `451-["x",{"_placeholder":true,"num":0}]`}, "1 connections ended"},
	} {
		t.Run(name, func(t *testing.T) {
			s, address := newScript(t, 1, c.texts...)
			order := fanOrder{Address: address, Buffer: 64, Groups: []fanGroup{{Tokens: []string{"t"}, Clients: 1, After: 7, Stamped: true}}}
			_, _, result := loaded(t, s, order, fanQuestion{From: []int64{7}})
			err := result.check(3)
			if c.fault == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.fault)
		})
	}
}

// Times count from the stamp, or later by the shift, and only of the events that were asked for.
func TestTheLoadTellsTimes(t *testing.T) {
	now := time.Now()
	s, address := newScript(t, 2, eventOf(1, now.Add(-time.Hour)), eventOf(2, now.Add(-time.Minute)), eventOf(3, now.Add(-time.Minute)))
	order := fanOrder{Address: address, Buffer: 4 << 10, Window: 2, Groups: []fanGroup{{Tokens: []string{"a", "b"}, Clients: 2, Stamped: true}}}
	joined, last, result := loaded(t, s, order, fanQuestion{From: []int64{1}, Shift: [][]int64{{0, (30 * time.Second).Microseconds()}}})
	require.NoError(t, result.check(6))
	assert.Equal(t, 2, joined.Clients)
	assert.LessOrEqual(t, last.Low, int64(3))
	const slack = 20 * time.Second
	assert.InDelta(t, 30*time.Second, result.P50, float64(slack)/2, "an event of a minute ago, committed 30 s ago")
	assert.InDelta(t, time.Minute, result.P99, float64(slack)/2)
	assert.ElementsMatch(t, []string{`40{"token":"a"}`, `40{"token":"b"}`}, s.connects)
	assert.EqualValues(t, 2*(3*len(eventOf(1, now))), result.Bytes)
}

// A client that resumes says where it stands, comes again when it is refused, and is timed until it has caught up.
func TestTheLoadResumes(t *testing.T) {
	now := time.Now()
	s, address := newScript(t, 1, eventOf(6, now), eventOf(7, now), eventOf(8, now))
	s.refuse.Store(2)
	order := fanOrder{Address: address, Buffer: 4 << 10, Groups: []fanGroup{{Tokens: []string{"t"}, Clients: 1, After: 5, Epoch: "e", Resume: true, Through: 8}}}
	joined, _, result := loaded(t, s, order, fanQuestion{})
	require.NoError(t, result.check(3))
	assert.Equal(t, 2, joined.Retries)
	assert.Equal(t, []string{`40{"epoch":"e","lastSeq":5,"token":"t"}`}, s.connects)
	assert.Positive(t, result.AllCaughtUp)
	assert.LessOrEqual(t, result.CatchUpMax, result.AllCaughtUp)
}

// The slowest client says how far a window has come.
func TestTheWindowFollowsTheSlowest(t *testing.T) {
	c := newFanCrowd(fanOrder{Window: 2, Groups: []fanGroup{{Tokens: []string{"t"}, Clients: 3, After: 10}}})
	g := c.groups[0]
	for range 3 {
		g.arrived(c, 11)
	}
	assert.EqualValues(t, 11, c.low.Load())
	g.arrived(c, 12)
	g.arrived(c, 13) // the same client, ahead of the others
	g.arrived(c, 12)
	assert.EqualValues(t, 11, c.low.Load(), "one client has yet to receive 12")
	g.arrived(c, 12)
	assert.EqualValues(t, 12, c.low.Load())
	assert.EqualValues(t, 7, c.deliveries.Load())
}
