package testkit_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func TestHerdSeesEveryFault(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	at := func(seq int64, epoch string) map[string]testkit.HerdPosition {
		return map[string]testkit.HerdPosition{"a": {Seq: seq, Epoch: epoch}}
	}
	script := func(steps ...any) []any { return steps }
	message := func(seq int, epoch, text string) any {
		return []any{"message:new", map[string]any{"content": text}, map[string]any{"seq": seq, "epoch": epoch, "at": "2026-01-01T00:00:00.000Z"}}
	}
	for name, test := range map[string]struct {
		script []any
		goal   map[string]testkit.HerdPosition
		want   testkit.HerdLedger
	}{
		"none": {
			script(message(7, "e", "canary-a-3"), message(8, "e", "x"), message(9, "e", "canary-a-4")), at(9, "e"),
			testkit.HerdLedger{First: 7, Last: 9, Epoch: "e", Events: 3, Canaries: 2, CanarySum: 7},
		},
		"gap": {
			script(message(1, "e", ""), message(4, "e", "")), at(4, "e"),
			testkit.HerdLedger{First: 1, Last: 4, Epoch: "e", Events: 2, Gaps: 2},
		},
		"double": {
			script(message(1, "e", ""), message(1, "e", ""), message(2, "e", "")), at(2, "e"),
			testkit.HerdLedger{First: 1, Last: 2, Epoch: "e", Events: 3, Doubles: 1},
		},
		"disorder": {
			script(message(1, "e", ""), message(3, "e", ""), message(2, "e", ""), message(4, "e", "")), at(4, "e"),
			testkit.HerdLedger{First: 1, Last: 4, Epoch: "e", Events: 4, Disorders: 1},
		},
		"stray": {
			script(message(1, "e", ""), message(2, "f", "")), at(2, "f"),
			testkit.HerdLedger{First: 1, Last: 2, Epoch: "f", Events: 2, Strays: 1},
		},
		"leak in an event that is not in the log": {
			script([]any{"typing:start", map[string]any{"deep": []any{"canary-b-12"}}}, message(1, "e", "")), at(1, "e"),
			testkit.HerdLedger{First: 1, Last: 1, Epoch: "e", Events: 2, Leaks: 1, Leaked: "canary-b-12"},
		},
		"reset": {
			script(message(5, "e", ""), []any{"sync:reset", map[string]any{"head": 2, "epoch": "f"}}, message(3, "f", "canary-a-1")), at(3, "f"),
			testkit.HerdLedger{First: 3, Last: 3, Epoch: "f", Events: 3, Resets: 1, Canaries: 1, CanarySum: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testkit.StartHerd(t, testkit.HerdOptions{
				URL: url, Canary: "canary-", Options: map[string]any{"transports": []string{"websocket"}},
				Clients: []testkit.HerdClient{{Auth: map[string]any{"token": "good", "script": test.script}, Group: "a"}},
			})
			h.Connect()
			_, err := h.Await(testkit.Context(t), testkit.HerdGoal{Connected: 1, Heads: test.goal})
			require.NoError(t, err)
			report, err := h.Report(testkit.Context(t))
			require.NoError(t, err)
			test.want.Group, test.want.Connected, test.want.Connections = "a", true, 1
			assert.Equal(t, []testkit.HerdLedger{test.want}, report.Clients)
		})
	}
}

func TestHerdGoesAndComes(t *testing.T) {
	t.Parallel()
	url := socketServer(t)
	options := testkit.HerdOptions{URL: url, Options: map[string]any{"reconnectionDelay": 20, "transports": []string{"websocket"}}, Canary: "c-"}
	const members = 30
	for range members {
		options.Clients = append(options.Clients, testkit.HerdClient{Auth: goodAuth, Group: "a"})
	}
	h := testkit.StartHerd(t, options)
	reach := func(goal testkit.HerdGoal) testkit.HerdReport {
		t.Helper()
		_, err := h.Await(testkit.Context(t), goal)
		require.NoError(t, err)
		report, err := h.Report(testkit.Context(t))
		require.NoError(t, err)
		return report
	}
	h.Connect()
	reach(testkit.HerdGoal{Connected: members})
	h.Drop()
	report := reach(testkit.HerdGoal{Connected: members, Connections: 2 * members})
	assert.Equal(t, members, report.BackMS.Count)
	assert.Positive(t, report.BackMS.P50)
	h.Mark()
	h.Hold()
	report = reach(testkit.HerdGoal{Connected: 0})
	for _, c := range report.Clients {
		assert.False(t, c.Connected)
		assert.Equal(t, 2, c.Disconnects)
	}
	h.Connect()
	report = reach(testkit.HerdGoal{Connected: members, Connections: 3 * members})
	assert.Equal(t, members, report.BackMS.Count, "only since the mark")
	h.Drop() // comes back by itself again
	reach(testkit.HerdGoal{Connected: members, Connections: 4 * members})
	h.Leave()
	reach(testkit.HerdGoal{Connected: 0})

	ctx, cancel := context.WithTimeout(testkit.Context(t), 100*time.Millisecond)
	defer cancel()
	_, err := h.Await(ctx, testkit.HerdGoal{Connected: members})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
