package bench

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// A small run of every part, with all processes. It fails by itself when a message is lost, doubled or out of order, or a
// number has two connections at once.
func TestWhatsAppMeasures(t *testing.T) {
	t.Parallel()
	profiles := t.TempDir()
	var out, progress strings.Builder
	err := Run(t.Context(), []string{
		"whatsapp", "-rounds", "1", "-numbers", "3", "-organizations", "2", "-idle", "300ms", "-settle", "300ms", "-writers", "3", "-messages", "30",
		"-rate", "30", "-paced", "500ms", "-mortal", "2", "-lease-ttl", "3s", "-profile", profiles,
	}, &out, &progress)
	require.NoError(t, err, "%s", out.String())
	for _, wanted := range []string{
		"3 numbers were linked by QR code", "all reconnected after a restart: ", "each bare client: ", "RSS per number: ", "goroutines per number: ",
		"committed and emitted: ", "of the bare clients' rate: ", "p99 from commit to socket: ", "a message: ", "INSERT INTO messages",
		"take-over after kill -9: ", "take-over after SIGTERM: ", "two connections of one number at once: 0 ",
	} {
		assert.Contains(t, out.String(), wanted)
	}
}

func TestWhatsAppRefusesWhatMakesNoSense(t *testing.T) {
	for name, args := range map[string][]string{
		"part": {"-only", "idle,busy"}, "no numbers": {"-numbers", "0"}, "more organizations than numbers": {"-writers", "2", "-organizations", "3"},
		"no time": {"-paced", "0s"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, progress strings.Builder
			require.Error(t, Run(testkit.Context(t), append([]string{"whatsapp"}, args...), &out, &progress))
			assert.Empty(t, out.String())
		})
	}
}

func TestWhoIsBackSinceAMoment(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	sessions := []whatsapp.Connection{
		{Number: "1", ConnectedAt: at(9), ActiveAt: at(10)},  // from before
		{Number: "2", ConnectedAt: at(11)},                   // let in, and has not asked for its messages yet
		{Number: "3", ConnectedAt: at(11), ActiveAt: at(12)}, // back
		{Number: "4", ConnectedAt: at(11), ActiveAt: at(13)}, // nobody's that is waited for
	}
	assert.Equal(t, map[string]time.Time{"3": at(12)}, activeSince(sessions, []string{"1", "2", "3"}, at(10)))
}

func TestAnEarWantsEveryEventInOrder(t *testing.T) {
	e := &ear{after: 6}
	now := time.Unix(100, 0)
	require.NoError(t, e.note([]byte(`42["message:new",{"content":"bench-1-99000000000;"},{"seq":7}]`), now))
	require.NoError(t, e.note([]byte(`42["chat:updated",{"lastMessage":{"content":"bench-1-99000000000;"}},{"seq":8}]`), now.Add(time.Second)))
	require.NoError(t, e.note([]byte(`42["typing:start",{"chatId":1}]`), now))
	p50, p99 := wholeWay([]*ear{e})
	assert.Equal(t, time.Second, p50)
	assert.Equal(t, time.Second, p99)
	arrived, err := e.until(testkit.Context(t), 8)
	require.NoError(t, err)
	assert.Equal(t, []time.Time{now, now.Add(time.Second)}, arrived)
	require.ErrorContains(t, e.note([]byte(`42["message:new",{},{"seq":8}]`), now), "event 8 came, and 9")
	require.ErrorContains(t, e.note([]byte(`42["message:new",{},{"seq":10}]`), now), "event 10 came, and 9")
}

func TestTheParentOfAProcess(t *testing.T) {
	assert.Equal(t, 12, parentOf("34 (a (b) c) S 12 34 34 0"))
	assert.Zero(t, parentOf("34 (a) S"))
}

func TestAStatementInALine(t *testing.T) {
	assert.Equal(t, "SELECT 1 FROM t", brief("SELECT 1\n\t FROM t "))
	long := brief(strings.Repeat("ä", 200))
	assert.Equal(t, strings.Repeat("ä", 110)+"…", long)
}
