package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"switchboard/internal/testkit"
)

// fillOutbox makes a channel with n queued bulk messages in m chats, half of
// another channel's, and a few chats that wait for another try.
const fillOutbox = `
INSERT INTO organizations (id, name, created_at) VALUES (1, 'a', 0);
INSERT INTO event_heads (organization_id, epoch) VALUES (1, 'e');
INSERT INTO channels (id, organization_id, kind, name, config, enabled, state, state_since, created_at, updated_at)
	SELECT i, 1, 'telegram', 'c', '{}', true, 'connected', 0, 0, 0 FROM (SELECT 1 AS i UNION SELECT 2) n;
INSERT INTO contacts (id, organization_id, created_at, updated_at) VALUES (1, 1, 0, 0);
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %[2]d)
INSERT INTO chats (id, organization_id, channel_id, channel_kind, kind, peer, contact_id, status, activity_at, created_at, updated_at)
	SELECT i, 1, 1 + i %% 2, 'telegram', 'direct', 'p' || i, 1, 'open', 0, 0, 0 FROM n;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %[1]d)
INSERT INTO messages (id, organization_id, chat_id, channel_id, channel_kind, type, content, from_me, sender_key, sender_name, status, priority,
		next_attempt_at, provider_time, created_at)
	SELECT i, 1, 1 + i %% %[2]d, 1 + (1 + i %% %[2]d) %% 2, 'telegram', 'text', 'x', true, 'me', '', 'queued', 1,
		CASE WHEN (i %% %[2]d) %% 10 < 2 THEN 4000000000000 ELSE 0 END, i, i FROM n;
ANALYZE;`

var errEnough = errors.New("enough was seen")

// TestClaimDoesNotGrowWithTheOutbox: however many messages wait, in many chats
// or in few, a claim and a look touch a few rows. With TEST_FULL=1 there are
// 200,000 of them, and the times are checked too.
func TestClaimDoesNotGrowWithTheOutbox(t *testing.T) {
	queued, atMost := 20_000, time.Duration(0)
	if testkit.Full() {
		queued, atMost = 200_000, 20*time.Millisecond
	}
	for _, database := range []struct {
		name string
		url  func(testing.TB) string
	}{{"PostgreSQL", testkit.Postgres}, {"SQLite", testkit.SQLite}} {
		for shape, chats := range map[string]int{"a message a chat": queued, "few chats": 40} {
			t.Run(database.name+", "+shape, func(t *testing.T) {
				t.Parallel()
				ctx := testkit.ContextFor(t, 5*time.Minute)
				s, err := Open(ctx, database.url(t), Options{})
				require.NoError(t, err)
				t.Cleanup(func() { _ = s.Close() })
				for statement := range strings.SplitSeq(fmt.Sprintf(fillOutbox, queued, chats), ";") {
					_, err = s.sql.ExecContext(ctx, statement)
					require.NoError(t, err)
				}
				claimOfMany(ctx, t, s, atMost)
			})
		}
	}
}

func claimOfMany(ctx context.Context, t *testing.T, s *Store, atMost time.Duration) {
	// Every second chat of the first ones waits for the provider, all of the
	// channel's if there are few.
	var passed []int64
	for chat := int64(2); chat < 400; chat += 2 {
		passed = append(passed, chat)
	}
	claim := SendClaim{ChannelID: 1, Term: 1, Limit: 8, Bulk: 6, Passed: passed}
	look := func() {
		_, err := s.SendsDue(ctx, 1, passed, true)
		require.NoError(t, err)
	}
	claimed := func(claim SendClaim) (n int) {
		_, err := s.InOrg(ctx, 1, func(tx *Tx) error {
			got, err := tx.ClaimSends(claim)
			n = len(got.Messages)
			if err == nil {
				err = errEnough // it is taken back
			}
			return err
		})
		require.ErrorIs(t, err, errEnough)
		return n
	}
	free := claim
	free.Passed = nil
	require.Equal(t, 6, claimed(free))
	if s.Postgres() {
		explainAll(ctx, t, s, func() { claimed(claim) })
		explainAll(ctx, t, s, func() { claimed(free) })
		explainAll(ctx, t, s, look)
	}
	if atMost > 0 {
		checkTime(t, atMost, func() { claimed(claim) })
		checkTime(t, atMost, func() { claimed(free) })
		checkTime(t, atMost, look)
	}
}

// explainAll runs the call's reading statements again under EXPLAIN and bounds
// the rows that they touch.
func explainAll(ctx context.Context, t *testing.T, s *Store, call func()) {
	t.Helper()
	type ran struct {
		text string
		vars []any
	}
	var statements []ran
	keep := func(db *gorm.DB) { statements = append(statements, ran{db.Statement.SQL.String(), db.Statement.Vars}) }
	require.NoError(t, s.db.Callback().Row().After("gorm:row").Replace("keep", keep))
	require.NoError(t, s.db.Callback().Query().After("gorm:query").Replace("keep", keep))
	require.NoError(t, s.db.Callback().Raw().After("gorm:raw").Replace("keep", keep))
	call()
	require.NotEmpty(t, statements)
	for _, statement := range statements {
		tx, err := s.sql.BeginTx(ctx, nil) // the statement may change something
		require.NoError(t, err)
		root, text := explained(ctx, t, tx, statement.text, statement.vars)
		require.NoError(t, tx.Rollback())
		touched := 0.0
		root.walk(func(p plan) {
			if p.Relation == "messages" || p.Relation == "outbox" || p.Relation == "chats" {
				if p.Relation == "messages" { // the others have a page or two if the chats are few
					require.NotEqual(t, "Seq Scan", p.Type, "%s\n%s", statement.text, text)
				}
				touched += (p.Rows + p.Removed) * p.Loops
			}
		})
		require.Less(t, touched, 700.0, "%s\n%s", statement.text, text)
	}
}
