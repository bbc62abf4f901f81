package bench

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// chatsOptions are the flags of chats.
type chatsOptions struct {
	size        chatsSize
	rounds      int
	samples     int
	databaseURL string
	buffers     string
}

func runChats(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
	var o chatsOptions
	flags.IntVar(&o.size.chats, "chats", 1_000_000, "chats, 40% of them in one organization")
	flags.IntVar(&o.size.messages, "messages", 10_000_000, "messages")
	flags.IntVar(&o.size.long, "long", 100_000, "messages more in one chat")
	flags.IntVar(&o.rounds, "rounds", 3, "rounds")
	flags.IntVar(&o.samples, "samples", 100, "samples of each row in a round")
	flags.StringVar(&o.databaseURL, "database-url", "", "PostgreSQL `URL` to use and keep, filled if it is empty; else a private one is made and removed")
	flags.StringVar(&o.buffers, "shared-buffers", "128MB", "shared_buffers of the private PostgreSQL")
	if err := parse(flags, args); err != nil {
		return err
	}
	if min(o.size.chats, o.size.messages, o.rounds, o.samples) < 1 || o.size.long < 0 {
		return errors.New("every number must be at least 1")
	}
	return withScope(ctx, func(s *scope) error {
		if o.databaseURL == "" {
			// Nothing is written after the filling, so nothing depends on durability.
			server := testkit.StartPostgres(s, testkit.PostgresOptions{Settings: map[string]string{"shared_buffers": o.buffers, "max_wal_size": "4GB"}})
			o.databaseURL = server.CreateDatabase("chats")
		}
		return chats(ctx, o, out)
	})
}

func chats(ctx context.Context, o chatsOptions, out io.Writer) error {
	if err := printMachine(ctx, out, o.databaseURL); err != nil {
		return err
	}
	begin := time.Now()
	s, err := o.size.open(ctx, o.databaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	if err := printContents(ctx, out, s.SQL(), time.Since(begin)); err != nil {
		return err
	}
	reads, err := chatReads(ctx, s)
	if err != nil {
		return err
	}
	messages, err := messageReads(ctx, s)
	if err != nil {
		return err
	}
	reads = append(reads, messages...)
	if err := sample(ctx, reads, o.rounds, o.samples); err != nil {
		return err
	}
	return printReads(out, reads, o)
}

func printContents(ctx context.Context, out io.Writer, db *sql.DB, took time.Duration) error {
	var chats, largest, messages int
	var size string
	err := db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM chats), (SELECT count(*) FROM chats WHERE organization_id = $1),
		(SELECT count(*) FROM messages), pg_size_pretty(pg_database_size(current_database()))`, bigOrganization).Scan(&chats, &largest, &messages, &size)
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	_, err = fmt.Fprintf(out, "%d chats, %d of them in one organization, %d messages, %s; ready after %s\n\n", chats, largest, messages, size, took.Round(time.Second))
	return err
}

// read is one kind of query, with the places in the list from which it is asked.
type read struct {
	name, place string
	calls       []func(context.Context) (rows int, err error)
	rounds      [][]time.Duration
	rows        int // of the last call
}

// listFilter is a filter of the chat list and how the table names it.
type listFilter struct {
	name         string
	organization int64
	filters      []store.ChatFilter
}

func listFilters() []listFilter {
	yes := true
	operator := func(status domain.ChatStatus, ids ...int64) (filters []store.ChatFilter) {
		for _, id := range ids {
			filters = append(filters, store.ChatFilter{AssigneeID: &id, Status: status})
		}
		return filters
	}
	one := func(f store.ChatFilter) []store.ChatFilter { return []store.ChatFilter{f} }
	words := func(words ...string) (filters []store.ChatFilter) {
		for _, word := range words {
			filters = append(filters, store.ChatFilter{Query: word})
		}
		return filters
	}
	return []listFilter{
		{"all", bigOrganization, one(store.ChatFilter{})},
		{"all, smaller organization", smallOrganization, one(store.ChatFilter{})},
		{"status open", bigOrganization, one(store.ChatFilter{Status: domain.ChatOpen})},
		{"status pending", bigOrganization, one(store.ChatFilter{Status: domain.ChatPending})},
		{"status resolved", bigOrganization, one(store.ChatFilter{Status: domain.ChatResolved})},
		{"one operator's", bigOrganization, operator("", 3, 14, 15, 26, 39)},
		{"one operator's open", bigOrganization, operator(domain.ChatOpen, 3, 14, 15, 26, 39)},
		{"nobody's", bigOrganization, operator("", 0)},
		{"nobody's open", bigOrganization, operator(domain.ChatOpen, 0)},
		{"unread", bigOrganization, one(store.ChatFilter{Unread: &yes})},
		{"channel, 55% of the chats", bigOrganization, one(store.ChatFilter{ChannelID: 1})},
		{"channel, 0.1% of the chats", bigOrganization, one(store.ChatFilter{ChannelID: 5})},
		{"channel, open", bigOrganization, one(store.ChatFilter{ChannelID: 2, Status: domain.ChatOpen})},
		{"tag on 10% of the chats", bigOrganization, one(store.ChatFilter{Tag: "vip"})},
		{"tag on 1%", bigOrganization, one(store.ChatFilter{Tag: "refund"})},
		{"tag on 0.8%", bigOrganization, one(store.ChatFilter{Tag: "return"})},
		{"tag on 0.4%", bigOrganization, one(store.ChatFilter{Tag: "parcel"})},
		{"tag on 0.05%", bigOrganization, one(store.ChatFilter{Tag: "legal"})},
		{"tag on 10%, open", bigOrganization, one(store.ChatFilter{Tag: "vip", Status: domain.ChatOpen})},
		{"q: first name", bigOrganization, words("maria", "JOSE", "yuki", "omar")},
		{"q: two words", bigOrganization, words("maria lopez", "rosa park", "Müller Tom", "nina weber")},
		{"q: two words of two letters", bigOrganization, words("ma lo", "le sm")},
		{"q: two letters", bigOrganization, words("ma", "le", "pe")},
		{"q: whole phone number", bigOrganization, words("+49 15007919000", "4915015838000", "4915023757000")},
		{"q: last four digits", bigOrganization, words("4711", "0815", "1234")},
		{"q: no such name", bigOrganization, words("zzz", "qwertz")},
		{"q: first name, open", bigOrganization, one(store.ChatFilter{Query: "sofia", Status: domain.ChatOpen})},
		{"q: two letters, unread", bigOrganization, one(store.ChatFilter{Query: "an", Unread: &yes})},
	}
}

const (
	// pageLength is the API's default; it asks for one chat more, to know whether there is a next page.
	pageLength = 50
	// neighbours are the pages from the named one on that samples are taken from.
	neighbours = 20
)

func depths() []int { return []int{1, 10, 100, 1000} }

// chatReads finds, for every filter, the places of the pages that shall be read.
func chatReads(ctx context.Context, s *store.Store) ([]*read, error) {
	var reads []*read
	for _, list := range listFilters() {
		byDepth := map[int]*read{}
		for _, filter := range list.filters {
			places, err := pages(ctx, s, list.organization, filter)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", list.name, err)
			}
			for _, depth := range depths() {
				for page := depth; page < depth+neighbours && page <= len(places); page++ {
					if depth == 1 && page > 1 {
						break
					}
					f := filter
					f.After, f.Limit = places[page-1], pageLength+1
					if byDepth[depth] == nil {
						byDepth[depth] = &read{name: list.name, place: strconv.Itoa(depth)}
						reads = append(reads, byDepth[depth])
					}
					byDepth[depth].calls = append(byDepth[depth].calls, func(ctx context.Context) (int, error) {
						found, err := s.Chats(ctx, list.organization, f)
						return len(found), err
					})
				}
			}
		}
	}
	return reads, nil
}

// pages walks a list and returns where its pages begin; the first is nil.
func pages(ctx context.Context, s *store.Store, organization int64, f store.ChatFilter) ([]*store.ChatPosition, error) {
	const stride = 40 // pages at a time
	places := []*store.ChatPosition{nil}
	deepest := depths()[len(depths())-1] + neighbours
	for f.Limit = stride * pageLength; len(places) < deepest; {
		found, err := s.Chats(ctx, organization, f)
		if err != nil {
			return nil, err
		}
		for i := pageLength - 1; i < len(found)-1 || i < len(found) && len(found) == f.Limit; i += pageLength {
			places = append(places, &found[i].Position)
		}
		if len(found) < f.Limit {
			break
		}
		f.After = &found[len(found)-1].Position
	}
	return places, nil
}

// messageReads are pages of messages: of a very long chat and of ordinary ones.
func messageReads(ctx context.Context, s *store.Store) ([]*read, error) {
	call := func(f store.MessageFilter) func(context.Context) (int, error) {
		f.Limit = pageLength + 1
		return func(ctx context.Context) (int, error) {
			found, err := s.MessagesOf(ctx, bigOrganization, f)
			return len(found), err
		}
	}
	var reads []*read
	for _, depth := range depths() {
		r := &read{name: "messages of the longest chat", place: strconv.Itoa(depth)}
		if depth == 1 {
			r.calls = append(r.calls, call(store.MessageFilter{ChatID: longChat}))
		} else {
			ids, err := messageIDs(ctx, s.SQL(), (depth-1)*pageLength-1)
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				r.calls = append(r.calls, call(store.MessageFilter{ChatID: longChat, Before: id}))
			}
		}
		if len(r.calls) > 0 {
			reads = append(reads, r)
		}
	}
	ordinary := &read{name: "messages of any chat", place: "1"}
	var last int64
	if err := s.SQL().QueryRowContext(ctx, "SELECT max(id) FROM chats WHERE organization_id = $1", bigOrganization).Scan(&last); err != nil {
		return nil, fmt.Errorf("find chats: %w", err)
	}
	ordinary.calls = append(ordinary.calls, func(ctx context.Context) (int, error) {
		return call(store.MessageFilter{ChatID: 1 + rand.Int64N(last)})(ctx) //nolint:gosec // a sample
	})
	return append(reads, ordinary), nil
}

// messageIDs are those of the longest chat's messages behind the newest offset ones.
func messageIDs(ctx context.Context, db *sql.DB, offset int) (ids []int64, err error) {
	rows, err := db.QueryContext(ctx, "SELECT id FROM messages WHERE chat_id = $1 ORDER BY provider_time DESC, id DESC OFFSET $2 LIMIT $3",
		longChat, offset, neighbours)
	if err != nil {
		return nil, fmt.Errorf("find messages: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("find messages: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// sample times the reads, in an order in which no two of one kind follow each other but by chance.
func sample(ctx context.Context, reads []*read, rounds, samples int) error {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the order of samples
	for range rounds {
		var order []*read
		for _, r := range reads {
			r.rounds = append(r.rounds, nil)
			for range samples {
				order = append(order, r)
			}
		}
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, r := range order {
			call := r.calls[random.IntN(len(r.calls))]
			begin := time.Now()
			rows, err := call(ctx)
			took := time.Since(begin)
			if err != nil {
				return fmt.Errorf("%s, page %s: %w", r.name, r.place, err)
			}
			r.rows = rows
			last := len(r.rounds) - 1
			r.rounds[last] = append(r.rounds[last], took)
		}
	}
	return nil
}

// maxChatList is the p95 that a page may take.
const maxChatList = 10 * time.Millisecond

func printReads(out io.Writer, reads []*read, o chatsOptions) error {
	_, _ = fmt.Fprintf(out, "milliseconds of a call of the store, %d rounds of %d samples each; pages of %d; p95: median of the rounds (lowest … highest)\n\n",
		o.rounds, o.samples, pageLength)
	t := newTable(out, "list", "page", "rows", "p50", "p95", "p99", "highest", "p95 ≤ 10 ms")
	within := 0
	for _, r := range reads {
		var p95 []float64
		var all []time.Duration
		for _, round := range r.rounds {
			slices.Sort(round)
			p95 = append(p95, milliseconds(percentile(round, 0.95)))
			all = append(all, round...)
		}
		slices.Sort(all)
		verdict := "NO"
		if median(p95) <= milliseconds(maxChatList) {
			verdict = "yes"
			within++
		}
		ms := func(p float64) string { return fmt.Sprintf("%.1f", milliseconds(percentile(all, p))) }
		t.row(r.name, r.place, strconv.Itoa(r.rows), ms(0.5), spread(p95, "%.1f"), ms(0.99), ms(1), verdict)
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d of %d within %s\n", within, len(reads), maxChatList)
	return err
}
