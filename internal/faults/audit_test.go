package faults

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

// auditSchema notes every version of every lease, and everything that a worker writes for a channel, with who held the
// channel's lease at that moment. A worker is known by the application name of its connections.
const auditSchema = `
CREATE SCHEMA audit;
CREATE TABLE audit.leases (channel_id bigint, worker text, term bigint, expires_at bigint, at timestamptz);
CREATE FUNCTION audit.lease() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit.leases VALUES (NEW.channel_id, split_part(NEW.worker_id, '#', 1), NEW.term, NEW.expires_at, clock_timestamp());
	RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON leases FOR EACH ROW EXECUTE FUNCTION audit.lease();

CREATE TABLE audit.writes (name text, op text, id bigint, external_id text, channel_id bigint, writer text, holder text, term bigint, at timestamptz);
CREATE FUNCTION audit.write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	fields jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
	channel bigint := fields ->> CASE WHEN TG_TABLE_NAME = 'channels' THEN 'id' ELSE 'channel_id' END;
BEGIN
	INSERT INTO audit.writes
		SELECT TG_TABLE_NAME, TG_OP, (fields ->> 'id')::bigint, fields ->> 'external_id', channel,
			current_setting('application_name'), split_part(l.worker_id, '#', 1), l.term, clock_timestamp()
		FROM (SELECT 1) AS once LEFT JOIN leases l ON l.channel_id = channel;
	RETURN NULL;
END $$;

CREATE FUNCTION audit.keys() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	fields jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
	owner text := coalesce(fields ->> 'our_jid', fields ->> 'device', fields ->> 'jid');
BEGIN
	INSERT INTO audit.writes
		SELECT TG_TABLE_NAME, TG_OP, NULL, NULL, coalesce(c.id, 0), current_setting('application_name'), split_part(l.worker_id, '#', 1), l.term, clock_timestamp()
		FROM (SELECT 1) AS once LEFT JOIN channels c ON c.device = owner LEFT JOIN leases l ON l.channel_id = c.id;
	RETURN NULL;
END $$;`

// audit begins the notes.
func (w *world) audit() {
	w.t.Helper()
	statements := []string{auditSchema}
	for _, table := range []string{"messages", "chats", "intakes", "channels", "commands", "media", "webhook_rejects"} {
		statements = append(statements, fmt.Sprintf(`CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW
			WHEN (current_setting('application_name') LIKE 'worker-%%') EXECUTE FUNCTION audit.write()`, table))
	}
	// The keys of linked numbers, whose tables are those of the library and one of the product.
	keys := []string{"whatsapp_lids", "whatsapp_notes"}
	err := w.query(testkit.Context(w.t), `SELECT DISTINCT table_name::text FROM information_schema.columns
		WHERE table_name LIKE 'whatsmeow_%' AND column_name IN ('our_jid', 'jid')`, nil,
		func(r pgx.Rows) error {
			var table string
			err := r.Scan(&table)
			keys = append(keys, table)
			return err
		})
	require.NoError(w.t, err)
	for _, table := range keys {
		statements = append(statements, fmt.Sprintf(`CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW
			WHEN (current_setting('application_name') LIKE 'worker-%%') EXECUTE FUNCTION audit.keys()`, table))
	}
	ctx := testkit.Context(w.t)
	conn, err := pgx.Connect(ctx, w.postgres.URL(databaseName))
	require.NoError(w.t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, strings.Join(statements, ";"))
	require.NoError(w.t, err)
}

// version is a state of a lease, and until when it could be acted on.
type version struct {
	worker string
	term   int64
	from   time.Time
	until  time.Time // its expiry, or when the next one took its place
}

// leaseHistory is every version of every lease, oldest first, by channel.
func (w *world) leaseHistory() map[int64][]version {
	w.t.Helper()
	history := map[int64][]version{}
	err := w.query(testkit.ContextFor(w.t, time.Minute), "SELECT channel_id, worker, term, expires_at, at FROM audit.leases ORDER BY at", nil,
		func(r pgx.Rows) error {
			var v version
			var channel, expires int64
			if err := r.Scan(&channel, &v.worker, &v.term, &expires, &v.from); err != nil {
				return err
			}
			v.until = time.UnixMilli(expires)
			if before := history[channel]; len(before) > 0 {
				last := &before[len(before)-1]
				if v.from.Before(last.until) {
					last.until = v.from
				}
			}
			history[channel] = append(history[channel], v)
			return nil
		})
	require.NoError(w.t, err)
	return history
}

// judgeLeases checks with the audit that at its provider a channel is acted for only by who has the lease, that nothing
// is written for it by anybody else, and that an update is confirmed only after its message's commit.
func (w *world) judgeLeases() {
	w.t.Helper()
	if !w.audited {
		return
	}
	w.judgeCalls()
	w.judgeWrites()
	w.judgeConfirmations()
	if w.linked {
		sessions, overlaps, err := w.sessions(testkit.Context(w.t))
		require.NoError(w.t, err)
		w.judgeSessions(sessions, overlaps)
		w.judgeConversations()
	}
}

// keysByChannel tells what the provider calls a channel, and channelsByKey the reverse.
func (w *world) keysByChannel() map[int64]string {
	keys := map[int64]string{}
	for _, l := range w.lines() {
		keys[l.channel] = l.key()
	}
	return keys
}

func (w *world) channelsByKey() map[string]int64 {
	channels := map[string]int64{}
	for _, l := range w.lines() {
		channels[l.key()] = l.channel
	}
	return channels
}

// judgeCalls compares all polls and sends with the leases. A worker trusts a lease for less time than it has; the
// simulator, which says when a call came, may be late beside the race detector. That the time is less by the margin is for
// requireSilent.
func (w *world) judgeCalls() {
	w.t.Helper()
	late := sized(leaseMargin+time.Second, 100*time.Millisecond)
	ctx := testkit.ContextFor(w.t, time.Minute)
	history, channels := w.leaseHistory(), w.channelsByKey()
	checked := 0
	check := func(what, line, worker string, at time.Time) {
		checked++
		if !slices.ContainsFunc(history[channels[line]], func(v version) bool {
			return v.worker == worker && !at.Before(v.from) && !at.After(v.until.Add(late))
		}) {
			w.t.Errorf("%s: a %s for channel %d at %s without the lease", worker, what, channels[line], at.Format(time.StampMicro))
		}
	}
	polls, overlaps, err := w.polls(ctx, 0, 0)
	require.NoError(w.t, err)
	bySeq := map[uint64]int{}
	for i, p := range polls {
		bySeq[p.Seq] = i
		if p.Outcome != pollGone { // else the caller may have gone long ago
			check("poll", strconv.FormatInt(p.Bot, 10), w.callerAt(p.Host), p.Start)
		}
	}
	for _, o := range overlaps {
		earlier, later := polls[bySeq[o.Earlier]], polls[bySeq[o.Later]]
		if x := w.callerAt(earlier.Host); !w.frozenSince(x, earlier.Start) {
			w.t.Errorf("bot %d has two pollers: %s from %s to %s, and %s from %s", o.Bot, x, earlier.Start.Format(time.StampMicro),
				earlier.End.Format(time.StampMicro), w.callerAt(later.Host), later.Start.Format(time.StampMicro))
		}
	}
	sends, err := w.deliveries(ctx)
	require.NoError(w.t, err)
	for _, s := range sends {
		check("send", s.line, s.worker, s.began)
	}
	w.t.Logf("oracle: %d polls and sends were made under a lease", checked)
}

// frozenSince says that a worker was paused after a moment: a poll that was open then stays open, and is no second poller.
func (w *world) frozenSince(name string, at time.Time) bool {
	for _, x := range w.everyWorker {
		if x.name == name && at.Before(x.frozen) {
			return true
		}
	}
	return false
}

func (w *world) judgeWrites() {
	w.t.Helper()
	writes := 0
	err := w.query(testkit.Context(w.t), `SELECT name, op, id, channel_id, writer, coalesce(holder, ''), at, writer IS DISTINCT FROM holder FROM audit.writes`, nil,
		func(r pgx.Rows) error {
			var name, op, writer, holder string
			var id *int64
			var channel int64
			var at time.Time
			var foreign bool
			if err := r.Scan(&name, &op, &id, &channel, &writer, &holder, &at, &foreign); err != nil {
				return err
			}
			writes++
			if foreign {
				w.t.Errorf("%s: %s %s for channel %d at %s, which %q holds", writer, op, name, channel, at.Format(time.StampMicro), holder)
			}
			return nil
		})
	require.NoError(w.t, err)
	require.NotZero(w.t, writes, "the audit sees what workers write")
	w.t.Logf("oracle: %d writes of workers were made under a lease", writes)
}

// judgeConfirmations compares when Telegram and WhatsApp were told to forget messages with when their messages were committed.
func (w *world) judgeConfirmations() {
	w.t.Helper()
	ctx := testkit.Context(w.t)
	committed := map[string]time.Time{} // by line and external id
	keys := w.keysByChannel()
	err := w.query(ctx, `SELECT channel_id, external_id, pg_xact_commit_timestamp(xmin) FROM audit.writes
		WHERE name = 'messages' AND op = 'INSERT' AND external_id IS NOT NULL`, nil,
		func(r pgx.Rows) error {
			var channel int64
			var external string
			var at time.Time
			err := r.Scan(&channel, &external, &at)
			committed[keys[channel]+" "+external] = at
			return err
		})
	require.NoError(w.t, err)
	updates, err := w.updates(ctx, 0)
	require.NoError(w.t, err)
	confirmed := 0
	for _, u := range updates {
		if !u.Confirmed() || u.Kind != "message" {
			continue
		}
		confirmed++
		at, found := committed[fmt.Sprintf("%d %d:%d", u.Bot, u.ChatID, u.MessageID)]
		if !found || u.EndedAt.Before(at) {
			w.t.Errorf("update %d of bot %d was confirmed at %s, its message was committed at %s", u.ID, u.Bot,
				u.EndedAt.Format(time.StampMicro), at.Format(time.StampMicro))
		}
	}
	w.t.Logf("oracle: %d updates were confirmed after the commit", confirmed)
	if w.linked {
		w.judgeInbound(committed)
	}
}
