package webhook

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

	"switchboard/internal/testkit"
)

// A full queue slows its senders down; it neither refuses nor holds more than it may.
func TestAFullQueueMakesTheSenderWait(t *testing.T) {
	in := New(Options{Logger: slog.New(slog.DiscardHandler)}) // not started: nobody takes from the queues
	ctx := testkit.Context(t)
	j := job{channels: []int64{5}}
	for j.id = 1; j.id <= queueLength; j.id++ {
		in.enqueue(ctx, j)
	}
	queue := in.queues[5]
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.enqueue(ctx, job{id: 1000, channels: []int64{5}})
	}()
	in.enqueue(ctx, job{id: 1, channels: []int64{6}}) // the other queues have room
	select {
	case <-done:
		t.Fatal("the queue took more than it may")
	default:
	}
	assert.Len(t, queue, queueLength)
	assert.Equal(t, int64(1), (<-queue).id)
	<-done
	var last job
	for range queueLength {
		last = <-queue
	}
	assert.Equal(t, int64(1000), last.id, "the one that waited has come in, behind the others")
}

// What finds no room stays in the database, for the sweeper: the sender has its answer all the same.
func TestASenderThatGoesAwayWaitsForNothing(t *testing.T) {
	in := New(Options{Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(testkit.Context(t))
	cancel()
	for id := range int64(queueLength + 1) {
		in.enqueue(ctx, job{id: id, channels: []int64{5}})
	}
	assert.Len(t, in.queues[5], queueLength)
}
