package inbox_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

func (c *customer) rejects() int64 {
	c.t.Helper()
	n, err := c.store.Rejects(testkit.Context(c.t), c.channelID)
	require.NoError(c.t, err)
	return n
}

// Who has lost the lease sets nothing aside: not what cannot be read, and not what cannot be stored.
func TestNothingIsSetAsideWithoutTheLease(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		claim := store.LeaseClaim{WorkerID: "a", TTL: time.Minute, Limit: 1, Kinds: []domain.ChannelKind{domain.KindWABA}}
		old, err := c.store.AcquireLeases(ctx, claim)
		require.NoError(t, err)
		require.NoError(t, c.store.ReleaseLease(ctx, old[0]))
		claim.WorkerID = "b"
		present, err := c.store.AcquireLeases(ctx, claim)
		require.NoError(t, err)

		unreadable := domain.Batch{Position: "7", Items: []domain.Received{{Raw: []byte("x"), Poison: errors.New("it is not valid JSON")}}}
		require.ErrorIs(t, c.inbox.ReceiveBatch(ctx, c.channelID, unreadable, store.Holding(old[0])), store.ErrLeaseLost)
		// The lease may go between the try to store an item and the note that it cannot be.
		tries := 0
		untilSetAside := func(tx *store.Tx) error {
			if tries++; tries > 2 { // together, alone
				return store.Holding(old[0])(tx)
			}
			return nil
		}
		require.ErrorIs(t, c.inbox.Receive(ctx, c.channelID, []domain.Inbound{{}}, untilSetAside), store.ErrLeaseLost)
		require.Zero(t, c.rejects())
		require.Empty(t, c.position())

		require.NoError(t, c.inbox.ReceiveBatch(ctx, c.channelID, unreadable, store.Holding(present[0])))
		require.NoError(t, c.inbox.Receive(ctx, c.channelID, []domain.Inbound{{}}, store.Holding(present[0])))
		require.EqualValues(t, 2, c.rejects())
		require.Equal(t, "7", c.position())
	})
}

// That the database is another than this program knows, for a while, is nobody's fault who writes: nothing is set aside.
func TestNothingIsSetAsideForTheTables(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		exec := func(statement string) {
			_, err := c.store.SQL().ExecContext(ctx, statement)
			require.NoError(t, err)
		}
		batch := batch("7", text("1", "Hello", c.store.Now()))
		batch.LastTry = true
		exec("ALTER TABLE messages RENAME COLUMN sender_name TO sender_label")
		require.Error(t, c.inbox.ReceiveBatch(ctx, c.channelID, batch))
		require.Zero(t, c.rejects())
		require.Empty(t, c.position())
		exec("ALTER TABLE messages RENAME COLUMN sender_label TO sender_name")
		require.NoError(t, c.inbox.ReceiveBatch(ctx, c.channelID, batch))
		require.Zero(t, c.rejects())
		require.Equal(t, "7", c.position())
		require.Equal(t, "Hello", c.messages(c.chats()[0].ID)[0].Content)
	})
}

// Of an item of any size a bounded part is kept, with a reason that the database takes. It is known by all of it.
func TestWhatIsSetAsideIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, c *customer) {
		ctx := testkit.Context(t)
		huge := bytes.Repeat([]byte("x"), 1<<20)
		other := append(bytes.Clone(huge), 'y')
		for _, raw := range [][]byte{huge, huge, other} {
			require.NoError(t, c.inbox.ReceiveBatch(ctx, c.channelID, domain.Batch{Position: "1", Items: []domain.Received{
				{Raw: raw, Poison: errors.New("bad \x00 \xff" + strings.Repeat("é", 1<<20))},
			}}))
		}
		require.EqualValues(t, 2, c.rejects(), "they differ behind what is kept")
		rows, err := c.store.SQL().QueryContext(ctx, "SELECT item, item_hash, error FROM webhook_rejects ORDER BY id")
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for _, raw := range [][]byte{huge, other} {
			var item, hash []byte
			var reason string
			require.True(t, rows.Next())
			require.NoError(t, rows.Scan(&item, &hash, &reason))
			require.Equal(t, huge[:64<<10], item)
			whole := sha256.Sum256(raw)
			require.Equal(t, whole[:], hash)
			require.Equal(t, "bad  �"+strings.Repeat("é", 994), reason)
		}
		require.NoError(t, rows.Err())
	})
}
