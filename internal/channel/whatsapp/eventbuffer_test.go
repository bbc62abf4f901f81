package whatsapp

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/util/dbutil"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"switchboard/internal/channel"
	"switchboard/internal/domain"
	"switchboard/internal/inbox"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
	"switchboard/internal/worker"
)

// batches stands between a session and the worker's intake.
type batches struct {
	channel.Intake

	before func(domain.Batch) error
}

func (b batches) ReceiveBatch(ctx context.Context, batch domain.Batch) error {
	if err := b.before(batch); err != nil {
		return err
	}
	return b.Intake.ReceiveBatch(ctx, batch)
}

// intercepted runs numbers whose batches fail where a test wants.
func (s *shop) intercepted(id string, before func(domain.Batch) error) *worker.Worker {
	s.t.Helper()
	return s.worker(id, func(o *worker.Options) {
		numbers := o.Factories[domain.KindWhatsApp]
		o.Factories = map[domain.ChannelKind]channel.Factory{domain.KindWhatsApp: func(c channel.Config) (channel.Session, error) {
			c.Intake = batches{c.Intake, before}
			return numbers(c)
		}}
	})
}

func partsOf(t *testing.T, b domain.Batch) (parts []part) {
	t.Helper()
	if b.Position != "" {
		require.NoError(t, json.Unmarshal([]byte(b.Position), &parts))
	}
	return parts
}

func (p part) syncType(t *testing.T) waE2E.HistorySyncType {
	t.Helper()
	var notice waE2E.HistorySyncNotification
	require.NoError(t, proto.Unmarshal(p.Notice, &notice))
	return notice.GetSyncType()
}

// acked waits until the phone's messages to its devices are acknowledged.
func (s *shop) acked(want int) {
	s.t.Helper()
	testkit.Eventually(s.t, "messages of the phone acknowledged", func() bool {
		n := 0
		for _, in := range s.sim.Ledger().Inbound(ourNumber) {
			if in.Type == "peer" && in.Acked != "" {
				n++
			}
		}
		return n >= want
	})
}

// The library acknowledges the phone's notices before they are stored. Where that
// fails they come from its buffer, to the next session.
func TestHistoryNoticesOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		const chats, messages = 15, 3 // all are in one part, behind one with the newest of each
		require.NoError(t, s.sim.History(ourNumber, old(s, chats, messages)))
		var broken atomic.Bool
		broken.Store(true)
		acked := make(chan struct{})
		first := s.intercepted("w1", func(b domain.Batch) error {
			if broken.Load() && slices.ContainsFunc(partsOf(t, b), func(p part) bool { return p.syncType(t) == waE2E.HistorySyncType_RECENT }) {
				select {
				case <-acked:
				case <-t.Context().Done():
				}
				return errMeddled
			}
			return nil
		})
		c := s.create(map[string]any{})
		s.scan(c.ID, ourNumber)
		s.acked(4) // the keys of the app state, and all notices
		close(acked)
		s.await(c.ID, domain.ChannelConnecting, codeStorage)
		assert.Less(t, s.count("SELECT COUNT(*) FROM messages"), chats*messages)
		first.Stop()
		broken.Store(false)
		s.worker("w2")
		testkit.Eventually(t, "all of the history", func() bool { return s.count("SELECT COUNT(*) FROM messages") == chats*messages })
		testkit.Eventually(t, "nothing is noted any more", func() bool { return s.count("SELECT COUNT(*) FROM whatsapp_notes") == 0 })
	})
}

// A message that only the phone can read is asked of it. Its answer is acknowledged
// once it is stored.
func TestAskedOfThePhone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		var broken atomic.Bool
		broken.Store(true)
		s.meddled("w1", meddle{before: func(items []domain.Inbound) error {
			if broken.Load() && saysText(items, "From the phone") {
				return errMeddled
			}
			return nil
		}})
		c := s.linked(ourNumber)
		s.acked(1) // there is a session with the phone
		id := s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeUnavailable, Text: "From the phone"})
		s.row(id, func(m domain.Message) bool { return m.Type == domain.TypeUnsupported })
		s.await(c.ID, domain.ChannelConnecting, codeStorage)
		broken.Store(false)
		s.row(id, text("From the phone"))
		s.acked(2)
		s.await(c.ID, domain.ChannelConnected, "")
		testkit.Eventually(t, "nothing is noted any more", func() bool { return s.count("SELECT COUNT(*) FROM whatsapp_notes") == 0 })
	})
}

// A message that cannot be decrypted is asked for and acknowledged before its line
// is stored. Where that fails the next connection stores it.
func TestUnreadableOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		in whatsapp.Incoming
	}{
		"undecryptable": {whatsapp.Incoming{From: marta, Type: whatsapp.TypeUndecryptable, Text: "Garbled"}},
		"in a group":    {whatsapp.Incoming{From: marta, Group: team, Type: whatsapp.TypeUndecryptable, Text: "Garbled"}},
		"unavailable":   {whatsapp.Incoming{From: marta, Type: whatsapp.TypeUnavailable, Text: "Only there"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, s *shop) {
				var broken, dead atomic.Bool
				broken.Store(true)
				s.meddled("w1", meddle{before: func(items []domain.Inbound) error {
					stands := slices.ContainsFunc(items, func(in domain.Inbound) bool { return in.Message != nil && in.Message.Placeholder })
					if broken.Load() && (stands || dead.Load()) {
						dead.Store(true) // for all that comes after it, too
						return errMeddled
					}
					return nil
				}})
				c := s.linked(ourNumber)
				id := s.says(tt.in)
				s.await(c.ID, domain.ChannelConnecting, codeStorage)
				assert.NotEmpty(t, s.sim.Ledger().InboundByID(ourNumber, id)[0].Acked, "WhatsApp does not bring it again")
				broken.Store(false)
				m := s.row(id, nil)
				assert.Equal(t, tt.in.Group != "", s.chat(m.ChatID).Contact.Phone == "", "in its chat")
				s.await(c.ID, domain.ChannelConnected, "")
				testkit.Eventually(t, "nothing is noted any more", func() bool { return s.count("SELECT COUNT(*) FROM whatsapp_notes") == 0 })
				require.NoError(t, s.sim.WaitIdle(testkit.Context(t)))
				assert.Len(t, s.all(), 1)
			})
		})
	}
}

// While nothing can be noted, what cannot be decrypted is not acknowledged.
func TestUnreadableWithoutNotes(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	s.worker("w1")
	c := s.linked(ourNumber)
	_, err := s.store.SQL().ExecContext(testkit.Context(t), "ALTER TABLE whatsapp_notes RENAME TO gone")
	require.NoError(t, err)
	id := s.says(whatsapp.Incoming{From: marta, Type: whatsapp.TypeUndecryptable, Text: "Garbled"})
	s.await(c.ID, domain.ChannelConnecting, codeStorage)
	for _, in := range s.sim.Ledger().InboundByID(ourNumber, id) {
		assert.Empty(t, in.Acked)
	}
	_, err = s.store.SQL().ExecContext(testkit.Context(t), "ALTER TABLE gone RENAME TO whatsapp_notes")
	require.NoError(t, err)
	s.row(id, nil)
	s.await(c.ID, domain.ChannelConnected, "")
}

// deviceOf opens the keys of the one linked device.
func (s *shop) deviceOf() *store.Device {
	s.t.Helper()
	devices, err := s.store.Devices(testkit.Context(s.t))
	require.NoError(s.t, err)
	require.Len(s.t, devices, 1)
	ring, err := newKeyring(s.store.SQL(), s.store.KeysDialect(), testkit.Logger(s.t), func(person) {}, func(string) {})
	require.NoError(s.t, err)
	device, err := ring.device(testkit.Context(s.t), devices[0])
	require.NoError(s.t, err)
	return device
}

// idleDevice links a number and ends its session. It opens the keys, which have met the phone's.
func (s *shop) idleDevice() *store.Device {
	s.t.Helper()
	w := s.worker("w1")
	s.linked(ourNumber)
	s.acked(1)
	w.Stop()
	return s.deviceOf()
}

// Only what was decrypted with the own phone's keys is taken for the phone's word:
// anybody can write a message that looks like it.
func TestNotesAreThePhones(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	device := s.idleDevice()
	ctx := testkit.Context(t)
	for _, table := range []string{"whatsapp_notes", "whatsmeow_event_buffer"} { // the end may have left something half done
		_, err := s.store.SQL().ExecContext(ctx, "DELETE FROM "+table)
		require.NoError(t, err)
	}
	notice, err := proto.Marshal(&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{HistorySyncNotification: &waE2E.HistorySyncNotification{}}})
	require.NoError(t, err)
	phone := device.ID.ToNonAD()
	stranger := types.NewJID(marta, types.DefaultUserServer)
	companion := *device.ID
	for i, tt := range []struct {
		from types.JID
		want int
	}{{stranger, 0}, {companion, 0}, {types.EmptyJID, 0}, {phone, 1}} {
		hash := [32]byte{byte(i)}
		require.NoError(t, device.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
			if !tt.from.IsEmpty() {
				if err := device.Sessions.PutSession(ctx, tt.from.SignalAddress().String(), []byte{1}); err != nil {
					return err
				}
			}
			return device.EventBuffer.PutBufferedEvent(ctx, hash, append(slices.Clone(notice), 1), time.Now())
		}))
		assert.Equal(t, tt.want, s.count("SELECT COUNT(*) FROM whatsapp_notes"), tt.from)
		require.NoError(t, device.EventBuffer.ClearBufferedEventPlaintext(ctx, hash))
		assert.Zero(t, s.count("SELECT COUNT(*) FROM whatsapp_notes"))
	}
	assert.Zero(t, s.count("SELECT COUNT(*) FROM whatsmeow_event_buffer WHERE plaintext IS NOT NULL"))
}

// statementCount counts what is asked of the database.
type statementCount struct {
	dbutil.DatabaseLogger

	n atomic.Int64
}

func (c *statementCount) QueryTiming(context.Context, string, string, []any, int, time.Duration, error) {
	c.n.Add(1)
}

// Keys are given out until they are uploaded, the same ones, and no id twice.
func TestPreKeys(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		device := s.idleDevice()
		ctx := testkit.Context(t)
		statements := &statementCount{}
		device.PreKeys.(*preKeys).db.Log = statements
		known := s.count("SELECT MAX(key_id) FROM whatsmeow_pre_keys")
		few, err := device.PreKeys.GetOrGenPreKeys(ctx, 5)
		require.NoError(t, err)
		single, err := device.PreKeys.GenOnePreKey(ctx) // goes out by another way: it is never among the others
		require.NoError(t, err)
		many, err := device.PreKeys.GetOrGenPreKeys(ctx, 812)
		require.NoError(t, err)
		require.Len(t, many, 812)
		assert.Less(t, statements.n.Load(), int64(12), "not one for each key: others wait for the database meanwhile")
		assert.Equal(t, few, many[:5])
		taken := map[uint32]bool{single.KeyID: true}
		for _, key := range many {
			assert.Greater(t, int(key.KeyID), known)
			assert.False(t, taken[key.KeyID], key.KeyID)
			taken[key.KeyID] = true
		}
		stored, err := device.PreKeys.GetPreKey(ctx, many[811].KeyID)
		require.NoError(t, err)
		assert.Equal(t, many[811], stored)
		require.NoError(t, device.PreKeys.MarkPreKeysAsUploaded(ctx, many[799].KeyID))
		rest, err := device.PreKeys.GetOrGenPreKeys(ctx, 12)
		require.NoError(t, err)
		assert.Equal(t, many[800:], rest)
	})
}

// Keys for an upload and keys for a retry receipt can be made at once.
func TestPreKeysAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		w := s.worker("w1")
		s.linked(ourNumber)
		w.Stop()
		device := s.deviceOf()
		began := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for i := range 25 {
					_, err := device.PreKeys.GetOrGenPreKeys(testkit.Context(t), uint32(5*i+5)) // #nosec G115 -- small
					assert.NoError(t, err)
				}
			})
			wg.Go(func() {
				for range 25 {
					_, err := device.PreKeys.GenOnePreKey(testkit.Context(t))
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		assert.Less(t, time.Since(began), testkit.Slack(10*time.Second), "nobody waits for a lock until the database gives up")
	})
}

// Old rows of the buffers go by age, in the housekeeping and not with every send.
func TestPrune(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *shop) {
		s.worker("w1")
		s.linked(ourNumber)
		in := s.row(s.says(whatsapp.Incoming{From: marta, Text: "Hello"}), nil)
		ctx := testkit.Context(t)
		devices, err := s.store.Devices(ctx)
		require.NoError(t, err)
		past := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
		const many = 2*pruneBatch + 1
		tx, err := s.store.SQL().BeginTx(ctx, nil)
		require.NoError(t, err)
		for i := range many + 1 {
			decrypted, sent := past(bufferedFor+time.Hour), past(sentFor+time.Hour)
			if i == many {
				decrypted, sent = past(bufferedFor-time.Hour), past(sentFor-time.Hour)
			}
			hash := [32]byte{1, byte(i >> 8), byte(i)}
			_, err := tx.ExecContext(ctx, "INSERT INTO whatsmeow_event_buffer (our_jid, ciphertext_hash, server_timestamp, insert_timestamp) VALUES ($1, $2, 0, $3)",
				devices[0], hash[:], decrypted)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, "INSERT INTO whatsmeow_retry_buffer (our_jid, chat_jid, message_id, format, plaintext, timestamp) VALUES ($1, 'c', $2, 'wa', $3, $4)",
				devices[0], strconv.Itoa(i), []byte{1}, sent)
			require.NoError(t, err)
		}
		require.NoError(t, tx.Commit())
		count := func() [2]int {
			return [2]int{s.count("SELECT COUNT(*) FROM whatsmeow_event_buffer WHERE server_timestamp = 0"), s.count("SELECT COUNT(*) FROM whatsmeow_retry_buffer WHERE chat_jid = 'c'")}
		}
		sent := s.send(inbox.SendInput{ChatID: in.ChatID, Content: "Out"})
		s.status(sent.ID, domain.StatusDelivered)
		assert.Equal(t, [2]int{many + 1, many + 1}, count(), "sends leave old rows alone")
		device := s.deviceOf()
		require.NoError(t, device.EventBuffer.DeleteOldBufferedHashes(ctx))
		assert.Equal(t, [2]int{many + 1, many + 1}, count(), "and so do reconnects")

		removed, err := Prune(ctx, s.store.SQL(), s.store.KeysDialect())
		require.NoError(t, err)
		assert.EqualValues(t, 2*many, removed)
		assert.Equal(t, [2]int{1, 1}, count())
		require.NoError(t, Migrate(ctx, s.store.SQL(), s.store.KeysDialect(), testkit.Logger(t)), "once more")
	})
}

// Names are read while the library learns them.
func TestNamesAtOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, linkable(t, testkit.PostgresFrom))
	w := s.worker("w1")
	s.linked(ourNumber)
	w.Stop()
	device := s.deviceOf()
	who := types.NewJID(marta, types.DefaultUserServer)
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		defer done.Store(true)
		for i := range 50 {
			_, _, err := device.Contacts.PutPushName(testkit.Context(t), who, strconv.Itoa(i))
			assert.NoError(t, err)
		}
	})
	wg.Go(func() {
		for !done.Load() {
			_, err := device.Contacts.GetContact(testkit.Context(t), who)
			assert.NoError(t, err)
		}
	})
	wg.Wait()
}
