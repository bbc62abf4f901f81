package bench

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// What the fill makes must be what the product would have made: else the figures are of another database.
func TestTheFilledDatabaseIsWhatTheProductReads(t *testing.T) {
	ctx := testkit.Context(t)
	size := chatsSize{chats: 2000, messages: 6000, long: 300}
	databaseURL := testkit.Postgres(t)
	before := indexes(t, testkit.Postgres(t))
	s, err := size.open(ctx, databaseURL)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()

	var chats, messages, orphans int
	require.NoError(t, s.SQL().QueryRowContext(ctx, `SELECT (SELECT count(*) FROM chats), (SELECT count(*) FROM messages),
		(SELECT count(*) FROM chats c LEFT JOIN messages m ON m.id = c.last_message_id AND m.chat_id = c.id AND m.provider_time = c.last_message_at
			WHERE m.id IS NULL OR EXISTS (SELECT 1 FROM messages n WHERE n.chat_id = c.id AND n.provider_time > c.last_message_at))`).
		Scan(&chats, &messages, &orphans))
	assert.Equal(t, size.chats, chats)
	assert.Equal(t, size.messages+size.long, messages)
	assert.Zero(t, orphans, "chats whose last message is not the last")
	assert.Equal(t, before, indexesOf(t, s), "the indexes are those of the migrations")

	page, err := s.Chats(ctx, bigOrganization, store.ChatFilter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, page, 10)
	for _, listed := range page {
		contact := listed.Chat.Contact
		for _, query := range []string{contact.Name, contact.Phone, contact.Phone[len(contact.Phone)-6:], strings.Fields(contact.Name)[0]} {
			found, err := s.Chats(ctx, bigOrganization, store.ChatFilter{Query: query, Limit: 2000})
			require.NoError(t, err)
			ids := map[int64]bool{}
			for _, f := range found {
				ids[f.Chat.ID] = true
			}
			assert.True(t, ids[listed.Chat.ID], "%q does not find chat %d", query, listed.Chat.ID)
		}
	}
	long, err := s.MessagesOf(ctx, bigOrganization, store.MessageFilter{ChatID: longChat, Limit: 1000})
	require.NoError(t, err)
	assert.Len(t, long, 300+3)

	again, err := chatsSize{chats: 1, messages: 1}.open(ctx, databaseURL)
	require.NoError(t, err, "a filled database is taken as it is")
	require.NoError(t, again.Close())
}

func TestPagesAreThoseOfTheList(t *testing.T) {
	ctx := testkit.Context(t)
	s, err := chatsSize{chats: 5000, messages: 5000, long: 1}.open(ctx, testkit.Postgres(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	filter := store.ChatFilter{Status: domain.ChatResolved}
	all, err := s.Chats(ctx, bigOrganization, store.ChatFilter{Status: domain.ChatResolved, Limit: 5000})
	require.NoError(t, err)
	places, err := pages(ctx, s, bigOrganization, filter)
	require.NoError(t, err)
	require.Len(t, places, (len(all)+pageLength-1)/pageLength)
	for i, place := range places {
		filter.After, filter.Limit = place, 1
		first, err := s.Chats(ctx, bigOrganization, filter)
		require.NoError(t, err)
		assert.Equal(t, all[i*pageLength].Chat.ID, first[0].Chat.ID, "page %d", i+1)
	}
}

func TestEveryReadIsSampled(t *testing.T) {
	ctx := testkit.Context(t)
	s, err := chatsSize{chats: 2000, messages: 2000, long: 600}.open(ctx, testkit.Postgres(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	reads, err := chatReads(ctx, s)
	require.NoError(t, err)
	messages, err := messageReads(ctx, s)
	require.NoError(t, err)
	reads = append(reads, messages...)
	require.NoError(t, sample(ctx, reads, 2, 3))
	names := map[string]bool{}
	for _, r := range reads {
		names[r.name] = true
		require.Len(t, r.rounds, 2)
		assert.Len(t, r.rounds[1], 3, r.name)
	}
	for _, list := range listFilters() {
		assert.True(t, names[list.name], "%s has no first page", list.name)
	}
	var out strings.Builder
	require.NoError(t, printReads(&out, reads, chatsOptions{rounds: 2, samples: 3}))
	assert.Contains(t, out.String(), "messages of the longest chat   10 ")
}

// indexes are those of a database that was only migrated.
func indexes(t *testing.T, databaseURL string) []string {
	t.Helper()
	s, err := store.Open(testkit.Context(t), databaseURL, store.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	return indexesOf(t, s)
}

func indexesOf(t *testing.T, s *store.Store) (definitions []string) {
	t.Helper()
	rows, err := s.SQL().QueryContext(testkit.Context(t), "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var definition string
		require.NoError(t, rows.Scan(&definition))
		definitions = append(definitions, definition)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, definitions)
	return definitions
}
