package webhook

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// full returns an Intake, not started, and one of its queues with no room left.
func full(ctx context.Context) (*Intake, chan job) {
	in := New(Options{Logger: slog.New(slog.DiscardHandler)})
	for id := range int64(queueLength) {
		in.enqueue(ctx, job{id: id, channels: []int64{5}})
	}
	return in, in.queues[5]
}

// A full queue slows its own senders down, and only those; it neither refuses nor holds more than it may.
func TestAFullQueueMakesTheSenderWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, queue := full(t.Context())
		answered := false
		go func() {
			in.enqueue(t.Context(), job{id: 1000, channels: []int64{5}})
			answered = true
		}()
		in.enqueue(t.Context(), job{id: 1, channels: []int64{6}})
		synctest.Wait()
		assert.False(t, answered, "it must wait")
		assert.Len(t, queue, queueLength)

		assert.Equal(t, int64(0), (<-queue).id)
		synctest.Wait()
		assert.True(t, answered, "there was room")
		var last job
		for range queueLength {
			last = <-queue
		}
		assert.Equal(t, int64(1000), last.id, "behind those that came before")
	})
}

// What finds no room is committed and stays for the sweeper: nobody waits for it longer than the sender does, or than queueWait.
func TestTheWaitForRoomEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, queue := full(t.Context())
		begin := time.Now()
		in.enqueue(t.Context(), job{id: 1000, channels: []int64{5}})
		assert.Equal(t, queueWait, time.Since(begin))

		gone, cancel := context.WithTimeout(t.Context(), queueWait/3)
		defer cancel()
		begin = time.Now()
		in.enqueue(gone, job{id: 1001, channels: []int64{5}})
		assert.Equal(t, queueWait/3, time.Since(begin))
		assert.Len(t, queue, queueLength)
	})
}
