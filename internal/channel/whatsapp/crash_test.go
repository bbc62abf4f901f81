package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
	"switchboard/internal/worker"
)

// meddle stands between a session and the worker's host: it fails, or dies,
// where a test wants.
type meddle struct {
	channel.Host

	before func(items []domain.Inbound) error // instead of storing
	after  func(items []domain.Inbound) error // instead of telling that it is stored
}

func (m *meddle) Receive(ctx context.Context, items []domain.Inbound) error {
	if m.before != nil {
		if err := m.before(items); err != nil {
			return err
		}
	}
	err := m.Host.Receive(ctx, items)
	if err == nil && m.after != nil {
		err = m.after(items)
	}
	return err
}

// meddled runs numbers whose host is meddled with.
func (s *shop) meddled(id string, m meddle) *worker.Worker {
	s.t.Helper()
	return s.worker(id, func(o *worker.Options) {
		numbers := o.Factories[domain.KindWhatsApp]
		o.Factories = map[domain.ChannelKind]channel.Factory{domain.KindWhatsApp: func(c channel.Config) (channel.Session, error) {
			between := m
			between.Host = c.Host
			c.Host = &between
			return numbers(c)
		}}
	})
}

func saysText(items []domain.Inbound, want string) bool {
	return slices.ContainsFunc(items, func(in domain.Inbound) bool { return in.Message != nil && in.Message.Content == want })
}

var errMeddled = errors.New("meddled with")

// Where the database does not take a message, or its answer is lost, the message
// is not acknowledged; it comes again, and is stored once.
func TestAckAfterCommit(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]func(m *meddle, fail func([]domain.Inbound) error){
		"before the commit": func(m *meddle, fail func([]domain.Inbound) error) { m.before = fail },
		"after the commit":  func(m *meddle, fail func([]domain.Inbound) error) { m.after = fail },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, s *shop) {
				var broken atomic.Bool
				broken.Store(true)
				var m meddle
				where(&m, func(items []domain.Inbound) error {
					if broken.Load() && saysText(items, "Hold on to it") {
						return errMeddled
					}
					return nil
				})
				s.meddled("w1", m)
				c := s.linked(ourNumber)
				id := s.says(whatsapp.Incoming{From: marta, Text: "Hold on to it"})
				behind := s.says(whatsapp.Incoming{From: marta, Text: "Behind it"})
				s.await(c.ID, domain.ChannelConnecting, codeStorage)
				for _, in := range s.sim.Ledger().InboundByID(ourNumber, id) {
					assert.Empty(t, in.Acked)
				}
				broken.Store(false)
				s.row(id, nil)
				s.row(behind, nil)
				s.await(c.ID, domain.ChannelConnected, "")
				require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
				rows := s.all()
				require.Len(t, rows, 2)
				assert.Equal(t, "Hold on to it", rows[0].Content, "in order")
				assert.Equal(t, domain.TypeText, rows[0].Type, "decrypted before, and not lost by that")
			})
		})
	}
}

// A panic in our code is no success to the library.
func TestPanicIsNoAck(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	var once atomic.Bool
	s.meddled("w1", meddle{before: func(items []domain.Inbound) error {
		if saysText(items, "Boom") && once.CompareAndSwap(false, true) {
			panic("boom")
		}
		return nil
	}})
	s.linked(ourNumber)
	s.row(s.says(whatsapp.Incoming{From: marta, Text: "Boom"}), text("Boom"))
	require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
	assert.Len(t, s.all(), 1)
}

// A worker that has lost the lease writes no key any more, and acknowledges
// nothing: the message goes to the worker that has the channel now.
func TestLostLease(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1", func(o *worker.Options) { o.LeaseTTL = time.Minute })
		c := s.linked(ourNumber)
		s.row(s.says(whatsapp.Incoming{From: marta, Text: "Before"}), nil)
		before := s.keysOf(marta)
		// Somebody else takes the lease, behind the worker's back.
		_, err := s.store.SQL().ExecContext(testkit.Context(t), "UPDATE leases SET worker_id = 'thief', term = term + 1")
		require.NoError(t, err)
		id := s.says(whatsapp.Incoming{From: marta, Text: "To whom?"})
		testkit.Eventually(t, "hung up", func() bool { return len(s.sim.Ledger().Sessions(ourNumber)) == 0 })
		assert.Equal(t, before, s.keysOf(marta), "no key was changed")
		for _, in := range s.sim.Ledger().InboundByID(ourNumber, id) {
			assert.Empty(t, in.Acked)
		}
		_, err = s.store.SQL().ExecContext(testkit.Context(t), "UPDATE leases SET worker_id = '', expires_at = 0")
		require.NoError(t, err)
		s.row(id, text("To whom?"))
		s.await(c.ID, domain.ChannelConnected, "")
	})
}

// keysOf is a fingerprint of the ratchets with everybody.
func (s *shop) keysOf(string) (sum string) {
	s.t.Helper()
	rows, err := s.store.SQL().QueryContext(testkit.Context(s.t), "SELECT their_id, session FROM whatsmeow_sessions ORDER BY their_id")
	require.NoError(s.t, err)
	defer rows.Close()
	for rows.Next() {
		var who string
		var session []byte
		require.NoError(s.t, rows.Scan(&who, &session))
		sum += fmt.Sprintf("%s %x\n", who, session)
	}
	require.NoError(s.t, rows.Err())
	return sum
}

// Take-overs, by a stop and by a death, lose nothing, double nothing, and never
// have two sessions of a number open.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	brief := func(o *worker.Options) { o.LeaseTTL = 3 * time.Second }
	first := s.worker("w1", brief)
	c := s.linked(ourNumber)
	var ids []string
	say := func(n int) {
		for range n {
			ids = append(ids, s.says(whatsapp.Incoming{From: marta, Text: fmt.Sprint(len(ids))}))
		}
	}
	say(20)
	second := s.worker("w2", brief)
	began := time.Now()
	first.Stop()
	say(20)
	testkit.Eventually(t, "w2", func() bool {
		now, err := s.inbox.Channel(testkit.Context(t), s.who, c.ID)
		require.NoError(t, err)
		return now.Status.Worker == "w2" && now.Status.State == domain.ChannelConnected
	})
	assert.Less(t, time.Since(began), testkit.Slack(2*time.Second))
	say(20)
	second.Stop()
	say(20)
	s.worker("w3", brief)
	for _, id := range ids {
		s.row(id, nil)
	}
	require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
	rows := s.all()
	require.Len(t, rows, len(ids))
	for i, m := range rows {
		assert.Equal(t, fmt.Sprint(i), m.Content, "in order")
	}
	assert.Empty(t, s.sim.Ledger().Overlaps(ourNumber))
}
