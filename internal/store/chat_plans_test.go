package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// fillChats makes n chats of organization 1, with contacts, terms and tags, as a busy desk has them: most are resolved and
// nobody's, a few hundred open. Organization 2 has a tenth of that.
const fillChats = `
INSERT INTO organizations (id, name, created_at) VALUES (1, 'a', 0), (2, 'b', 0);
INSERT INTO users (id, organization_id, name, email, password_hash, role, active, created_at, updated_at)
	SELECT i, 1, 'u' || i, 'u' || i, 'x', 'operator', true, 0, 0 FROM generate_series(1, 20) i;
INSERT INTO channels (id, organization_id, kind, name, config, enabled, state, state_since, created_at, updated_at)
	SELECT i, CASE WHEN i < 6 THEN 1 ELSE 2 END, 'waba', 'c', '{}', true, 'connected', 0, 0, 0 FROM generate_series(1, 6) i;
INSERT INTO contacts (id, organization_id, name, phone, created_at, updated_at)
	SELECT i, CASE WHEN i <= %[1]d THEN 1 ELSE 2 END, 'First' || i %% 5000 || ' Last' || i %% 777, '49151' || lpad(i::text, 8, '0'), 0, 0
	FROM generate_series(1, %[1]d + %[1]d / 10) i;
INSERT INTO contact_terms (organization_id, term, contact_id)
	SELECT organization_id, t.term, id FROM contacts, LATERAL (VALUES ('first' || id %% 5000), ('last' || id %% 777), (phone), ('<' || reverse(phone))) t (term);
INSERT INTO chats (id, organization_id, channel_id, channel_kind, kind, peer, contact_id, status, assignee_id, unread_count, tags, activity_at, created_at, updated_at)
	SELECT id, organization_id, CASE WHEN organization_id = 1 THEN 1 + id %% 5 ELSE 6 END, 'waba', 'direct', phone, id,
		CASE WHEN id %% 2000 = 0 THEN 'open' WHEN id %% 2000 = 1 THEN 'pending' ELSE 'resolved' END,
		CASE WHEN id %% 3 = 0 THEN 1 + id %% 20 END, CASE WHEN id %% 1000 = 7 THEN 1 ELSE 0 END,
		CASE WHEN id %% 7 = 0 THEN '["vip"]' WHEN id %% 5000 = 3 THEN '["rare"]' ELSE '[]' END,
		1700000000000 + (hashint8(id)::bigint + 2147483648) %% 1000000000, 0, 0 FROM contacts;
INSERT INTO chat_tags (organization_id, tag, chat_id) SELECT organization_id, trim('[]"' FROM tags), id FROM chats WHERE tags <> '[]';
ANALYZE;`

// plan is a node of EXPLAIN (FORMAT JSON).
type plan struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Loops    float64 `json:"Actual Loops"`
	Plans    []plan
}

func (p plan) walk(visit func(plan)) {
	visit(p)
	for _, child := range p.Plans {
		child.walk(visit)
	}
}

// recorder keeps the statements of a store.
type recorder struct{ statements []*gorm.Statement }

func record(t *testing.T, s *Store) *recorder {
	t.Helper()
	r := &recorder{}
	keep := func(db *gorm.DB) { r.statements = append(r.statements, db.Statement) }
	require.NoError(t, s.db.Callback().Row().After("gorm:row").Register("keep", keep))
	require.NoError(t, s.db.Callback().Query().After("gorm:query").Register("keep", keep))
	return r
}

// explain runs the last statement again, under EXPLAIN ANALYZE.
func (r *recorder) explain(ctx context.Context, t *testing.T, s *Store) (plan, string) {
	t.Helper()
	last := r.statements[len(r.statements)-1]
	return explained(ctx, t, s.sql, last.SQL.String(), last.Vars)
}

// explained runs a statement under EXPLAIN ANALYZE.
func explained(ctx context.Context, t *testing.T, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, statement string, vars []any,
) (plan, string) {
	t.Helper()
	var text string
	require.NoError(t, db.QueryRowContext(ctx, "EXPLAIN (ANALYZE, FORMAT JSON) "+statement, vars...).Scan(&text))
	var roots []struct{ Plan plan }
	require.NoError(t, json.Unmarshal([]byte(text), &roots))
	return roots[0].Plan, text
}

// TestChatListsFollowAnIndex: whatever the filter, a page of the chat list follows an index, on the first page and on later
// ones. With TEST_FULL=1 there are a million chats, and the times are checked too.
func TestChatListsFollowAnIndex(t *testing.T) {
	chats, atMost := 40_000, time.Duration(0)
	if testkit.Full() {
		chats, atMost = 1_000_000, 10*time.Millisecond
	}
	ctx := testkit.ContextFor(t, 8*time.Minute)
	s, err := Open(ctx, testkit.Postgres(t), Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	_, err = s.sql.ExecContext(ctx, fmt.Sprintf(fillChats, chats))
	require.NoError(t, err)
	recorded := record(t, s)
	user, nobody, yes, no := int64(4), int64(0), true, false
	// Where a search or a tag is neither rare nor common, or two meet, more rows are walked than shown: with a million chats
	// a tenth of a second, for two words up to half a second.
	walks := map[string]bool{"a word of many": true, "two words": true, "a word and a status": true, "a tag of one operator's": true}

	for name, f := range map[string]ChatFilter{
		"all":                     {},
		"open":                    {Status: domain.ChatOpen},
		"resolved":                {Status: domain.ChatResolved},
		"one operator's":          {AssigneeID: &user},
		"one operator's open":     {AssigneeID: &user, Status: domain.ChatOpen},
		"nobody's":                {AssigneeID: &nobody},
		"nobody's pending":        {AssigneeID: &nobody, Status: domain.ChatPending},
		"a channel's":             {ChannelID: 3},
		"a channel's open":        {ChannelID: 3, Status: domain.ChatOpen},
		"another organization's":  {ChannelID: 6},
		"unread":                  {Unread: &yes},
		"unread open":             {Unread: &yes, Status: domain.ChatOpen},
		"read":                    {Unread: &no},
		"a common tag":            {Tag: "vip"},
		"a rare tag":              {Tag: "rare"},
		"no such tag":             {Tag: "none"},
		"a common word":           {Query: "fir"},
		"a rare word":             {Query: "first4321"},
		"a word of many":          {Query: "last55"},
		"two words":               {Query: "last77 first1"},
		"a phone number":          {Query: "+49 151 0000 1234"},
		"a phone number's end":    {Query: "01234"},
		"no such word":            {Query: "zzz"},
		"a word and a status":     {Query: "last5", Status: domain.ChatOpen},
		"a tag of one operator's": {Tag: "vip", AssigneeID: &user},
	} {
		t.Run(name, func(t *testing.T) {
			f.Limit = 51
			for page := 1; page <= 4; page++ {
				recorded.statements = nil
				listed, err := s.Chats(ctx, 1, f)
				require.NoError(t, err)
				if strings.Contains(strings.Join(sqlOf(recorded), " "), "FROM chats") {
					root, text := recorded.explain(ctx, t, s)
					checkPlan(t, root, text, testkit.Full() && walks[name])
				}
				if atMost > 0 {
					limit := atMost
					if walks[name] {
						limit = 500 * time.Millisecond
					}
					checkTime(t, limit, func() {
						_, err := s.Chats(ctx, 1, f)
						require.NoError(t, err)
					})
				}
				if len(listed) < f.Limit {
					break
				}
				f.After = &listed[len(listed)-1].Position
			}
		})
	}
}

func sqlOf(r *recorder) []string {
	var all []string
	for _, statement := range r.statements {
		all = append(all, statement.SQL.String())
	}
	return all
}

// checkPlan refuses scans of whole tables, and sorts of more than what a search found or a page shows.
func checkPlan(t *testing.T, root plan, text string, walks bool) {
	t.Helper()
	touched := 0.0
	root.walk(func(p plan) {
		if p.Relation == "chats" || p.Relation == "contacts" || p.Relation == "contact_terms" || p.Relation == "chat_tags" {
			require.NotEqual(t, "Seq Scan", p.Type, "%s", text)
			touched += (p.Rows + p.Removed) * p.Loops
		}
	})
	if walks {
		return
	}
	require.Less(t, touched, 4.0*fewMatches, "%s", text)
}

// checkTime fails when the 95th percentile of 20 calls is above atMost.
func checkTime(t *testing.T, atMost time.Duration, call func()) {
	t.Helper()
	took := make([]time.Duration, 20)
	for i := range took {
		began := time.Now()
		call()
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	t.Logf("%s: p50 %s, p95 %s", t.Name(), took[10], took[18])
	if took[18] > atMost {
		t.Errorf("p95 is %s, at most %s is wanted", took[18], atMost)
	}
}
