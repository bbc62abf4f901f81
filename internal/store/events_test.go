package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// log appends n events to the desk's log and returns its head.
func (d *desk) log(n int) store.Head {
	d.t.Helper()
	committed := d.tx(func(tx *store.Tx) error {
		for i := range n {
			tx.Broadcast("test", map[string]int{"i": i})
		}
		return nil
	})
	last := committed.Events[n-1]
	return store.Head{Seq: last.Seq, Epoch: last.Epoch}
}

func (d *desk) after(seq int64, limit int) domain.EventPage {
	d.t.Helper()
	page, err := d.store.EventsAfter(testkit.Context(d.t), d.org, seq, limit)
	require.NoError(d.t, err)
	return page
}

func (d *desk) prune(before domain.Time, keep int64) int64 {
	d.t.Helper()
	n, err := d.store.PruneEvents(testkit.Context(d.t), d.org, before, keep)
	require.NoError(d.t, err)
	return n
}

func TestTheLogIsReadInPages(t *testing.T) {
	withDesk(t, func(d *desk) {
		head := d.log(1200)
		page := d.after(head.Seq-600, 0)
		require.Len(t, page.Events, store.MaxEventPage, "no limit is the highest one")
		require.Len(t, d.after(head.Seq-600, 501).Events, store.MaxEventPage)
		page = d.after(head.Seq-600, 7)
		require.Len(t, page.Events, 7)
		for i, e := range page.Events {
			require.Equal(t, head.Seq-600+int64(i)+1, e.Seq)
			require.Equal(t, head.Epoch, e.Epoch)
			require.NotEmpty(t, e.Data)
		}
		require.Equal(t, store.Head{Seq: page.Head, Epoch: page.Epoch}, head)
		page = d.after(head.Seq, 10)
		require.Empty(t, page.Events)
		require.NotNil(t, page.Events)
		require.False(t, page.Resync, "nothing was missed")
		require.True(t, d.after(head.Seq+1, 10).Resync, "from the future")
		require.True(t, d.after(-1, 10).Resync)
		_, err := d.store.EventsAfter(testkit.Context(t), d.org+1000, 0, 10)
		require.Equal(t, domain.CodeNotFound, domain.CodeOf(err))
	})
}

func TestRetention(t *testing.T) {
	withDesk(t, func(d *desk) {
		head := d.log(100)
		start := domain.At(time.Now().Add(-time.Hour))
		require.Zero(t, d.prune(start, 1000), "all of it is young and few")
		require.Equal(t, head.Seq-40, d.prune(start, 40), "too many")
		require.Zero(t, d.prune(start, 40))
		require.True(t, d.after(head.Seq-41, 100).Resync)
		require.Empty(t, d.after(head.Seq-41, 100).Events)
		page := d.after(head.Seq-40, 100)
		require.False(t, page.Resync, "the last position that has all that follows")
		require.Len(t, page.Events, 40)
		require.True(t, d.after(0, 100).Resync)

		require.EqualValues(t, 40, d.prune(domain.At(time.Now().Add(time.Hour)), 1000), "all of it is old")
		require.True(t, d.after(head.Seq-1, 100).Resync)
		require.False(t, d.after(head.Seq, 100).Resync, "who has everything misses nothing")
		next := d.log(1)
		require.Equal(t, head.Seq+1, next.Seq, "numbers go on")
		require.Equal(t, head.Epoch, next.Epoch)
		require.Len(t, d.after(head.Seq, 100).Events, 1)
	})
}

// Readers beside retention get a stretch without gaps or are told to refetch, never a hole.
func TestReadersBesideRetention(t *testing.T) {
	withDesk(t, func(d *desk) {
		head := d.log(3000)
		var reading sync.WaitGroup
		for range 3 {
			reading.Go(func() {
				for at := int64(0); at < head.Seq; {
					page, err := d.store.EventsAfter(testkit.Context(t), d.org, at, 50)
					if err != nil {
						t.Error(err)
						return
					}
					if page.Resync {
						at += 10
						continue
					}
					if len(page.Events) == 0 {
						t.Errorf("a hole behind %d", at)
						return
					}
					for _, e := range page.Events {
						if e.Seq != at+1 {
							t.Errorf("%d follows %d", e.Seq, at)
							return
						}
						at = e.Seq
					}
				}
			})
		}
		for keep := head.Seq; keep > 0; keep -= 300 {
			d.prune(0, keep)
		}
		reading.Wait()
	})
}
