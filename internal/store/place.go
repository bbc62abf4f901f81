package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// A database that was restored, or a standby that was promoted, may lack events that sockets have seen, and will give their
// numbers to others. A log is therefore told apart by its epoch, and the epochs end where the database's history may have
// branched off:
//
//   - Its row in event_log_place says where it lived when the epochs were given. Another cluster, timeline or database is
//     another history. So is a row that was not written by the transaction that it names: dump and restore write it anew.
//   - What was flushed to the write-ahead log stays there. A process that sees its end fall back, on the same server, sees
//     a disk that was put back.
//
// The comparison is made on every new connection before it is used, since no database is restored or replaced without breaking
// those that were open; and, for tables that are restored in place under running processes, whenever the heads are polled.
// Who sees a difference first gives every organization a new epoch in one transaction, under a lock; all others find it done.
// So nothing is written to the new history under an old epoch, however far its numbers have come.

// Reasons for new epochs, as Options.Renewed is told.
const (
	RenewedByOrder  = "ordered"  // NewEpochs was called
	renewedUnknown  = "unknown"  // nothing says where the database lived before
	renewedCopied   = "copied"   // the rows were written anew: a dump was restored
	renewedCluster  = "cluster"  // another cluster
	renewedTimeline = "timeline" // a promoted standby, or recovery to a point in time
	renewedDatabase = "database" // another database of the cluster
	renewedRewound  = "rewound"  // the write-ahead log ends before where it has been
)

// tornRecord is how far the end of the write-ahead log may fall back by a mere crash, in bytes: pages are flushed in
// the middle of a record, which recovery drops if its end is missing. Ordinary records are not longer than the 33 pages
// that they may hold.
const tornRecord = 512 << 10

// place is what can be read about where the database lives. What the role may not read is empty.
type place struct {
	system, timeline, database, table string
	flushed                           int64 // the end of the write-ahead log, 0 if unknown
	at                                int64 // when that was, Unix milliseconds by the database's clock
}

// placeRecord is the row in event_log_place.
type placeRecord struct {
	exists    bool
	place     place
	copied    bool // the row was not written where it lies
	renewedAt int64
}

// places compares where the database lives with where it lived.
type places struct {
	renewed func(reason string) // never nil

	mu   sync.Mutex // guards what follows
	read string     // the query for place and record; empty until it is known what the role may read
	last place      // the newest that this process has seen
}

// errStandby keeps connections to a standby out of the pool: one that outlives the promotion would write to the new timeline
// unseen, and nothing works on a standby anyway.
var errStandby = &pgconn.PgError{
	Severity: "ERROR", Code: "57P03", Message: "the server is a standby that takes no writes; DATABASE_URL must name the primary",
}

// unreadable are the codes by which a server says that a role may not, or nobody can, read something.
func unreadable(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "42501", "42883", "42P01", "42703", "0A000", "55000": // privilege, function, table, column, feature, state
		return true
	}
	return false
}

func isUndefinedTable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P01"
}

// admit is called with every new connection before it is used.
func (p *places) admit(ctx context.Context, conn *pgx.Conn) error {
	var standby bool
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()", pgx.QueryExecModeExec).Scan(&standby); err != nil {
		return fmt.Errorf("ask whether the server is a standby: %w", err)
	}
	if standby {
		return errStandby
	}
	return p.check(ctx, conn)
}

// check compares, and gives new epochs if there is a reason to.
func (p *places) check(ctx context.Context, conn *pgx.Conn) error {
	query, seen, err := p.prepare(ctx, conn)
	if err != nil {
		return err
	}
	now, record, err := readPlace(ctx, conn, query)
	switch {
	case isUndefinedTable(err):
		return nil // not migrated yet; Open checks after that
	case err != nil:
		return fmt.Errorf("learn where the database lives: %w", err)
	case difference(now, record, seen) == "":
		p.saw(now)
		return nil
	}
	return p.renew(ctx, conn, query, func(now place, record placeRecord) string { return difference(now, record, seen) })
}

// prepare finds out what the role may read, once, and returns the query and what was seen last. The latter is taken before
// anything is read: whatever is read after must not lie behind it.
func (p *places) prepare(ctx context.Context, conn *pgx.Conn) (query string, seen place, err error) {
	p.mu.Lock()
	query, seen = p.read, p.last
	p.mu.Unlock()
	if query != "" {
		return query, seen, nil
	}
	if query, err = placeQuery(ctx, conn); err != nil {
		return "", place{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read = query
	return query, seen, nil
}

// placeQuery builds the query out of the expressions that the role may evaluate.
func placeQuery(ctx context.Context, conn *pgx.Conn) (string, error) {
	expressions := []string{
		"(SELECT system_identifier::text FROM pg_control_system())",
		"substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8)",
		"pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint",
	}
	for i, expression := range expressions {
		_, err := conn.Exec(ctx, "SELECT "+expression)
		if err == nil {
			continue
		}
		if !unreadable(err) {
			return "", fmt.Errorf("learn what may be read of where the database lives: %w", err)
		}
		expressions[i] = []string{"''", "''", "0::bigint"}[i]
	}
	return "SELECT " + strings.Join(expressions, ", ") + `,
		(SELECT oid::text FROM pg_database WHERE datname = current_database()), 'event_heads'::regclass::oid::text,
		(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
		p.id IS NOT NULL, COALESCE(p.system_id, ''), COALESCE(p.timeline, ''), COALESCE(p.database_oid, ''), COALESCE(p.table_oid, ''),
		COALESCE(p.xmin::text::bigint <> p.written_by % 4294967296, false), COALESCE(p.renewed_at, 0)
		FROM (SELECT 1) one LEFT JOIN event_log_place p ON p.id = 1`, nil
}

func readPlace(ctx context.Context, db interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}, query string,
) (now place, record placeRecord, err error) {
	// Not prepared: the tables may be others the next time.
	err = db.QueryRow(ctx, query, pgx.QueryExecModeExec).Scan(
		&now.system, &now.timeline, &now.flushed, &now.database, &now.table, &now.at,
		&record.exists, &record.place.system, &record.place.timeline, &record.place.database, &record.place.table,
		&record.copied, &record.renewedAt)
	return now, record, err
}

// difference says why the history may not be the one that the record knows, or "". seen is what this process saw last.
func difference(now place, record placeRecord, seen place) string {
	differs := func(a, b string) bool { return a != "" && b != "" && a != b }
	then := record.place
	switch {
	case !record.exists:
		return renewedUnknown
	case differs(now.system, then.system):
		return renewedCluster
	case differs(now.timeline, then.timeline):
		return renewedTimeline
	case differs(now.database, then.database):
		return renewedDatabase
	case record.copied || differs(now.table, then.table):
		return renewedCopied
	// Another process may have seen it first: then the epochs are younger than what was seen here.
	case seen.sameServer(now) && now.flushed+tornRecord < seen.flushed && record.renewedAt <= seen.at:
		return renewedRewound
	}
	return ""
}

// sameServer reports whether the ends of two write-ahead logs can be compared.
func (p place) sameServer(other place) bool {
	return p.system == other.system && p.timeline == other.timeline && p.flushed > 0 && other.flushed > 0
}

func (p *places) saw(now place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.sameServer(now) || now.flushed > p.last.flushed || now.at > p.last.at {
		p.last = now
	}
}

// renew gives all organizations a new epoch if there still is a reason to, once nobody else is doing it.
func (p *places) renew(ctx context.Context, conn *pgx.Conn, query string, reasonTo func(place, placeRecord) string) error {
	var (
		reason string
		now    place
		given  int64
	)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE event_log_place IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		var record placeRecord
		var err error
		if now, record, err = readPlace(ctx, tx, query); err != nil {
			return err
		}
		if reason = reasonTo(now, record); reason == "" {
			return nil
		}
		result, err := tx.Exec(ctx, "UPDATE event_heads SET epoch = left(replace(gen_random_uuid()::text, '-', ''), 16)")
		if err != nil {
			return err
		}
		given = result.RowsAffected()
		return recordPlace(ctx, tx, now)
	})
	if err != nil {
		return fmt.Errorf("give the event logs new epochs: %w", err)
	}
	p.saw(now)
	if reason != "" && given > 0 {
		p.renewed(reason)
	}
	return nil
}

func recordPlace(ctx context.Context, tx pgx.Tx, now place) error {
	_, err := tx.Exec(ctx, `INSERT INTO event_log_place (id, system_id, timeline, database_oid, table_oid, written_by, renewed_at)
		VALUES (1, $1, $2, $3, $4, pg_current_xact_id()::text::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
		ON CONFLICT (id) DO UPDATE SET system_id = excluded.system_id, timeline = excluded.timeline, database_oid = excluded.database_oid,
		table_oid = excluded.table_oid, written_by = excluded.written_by, renewed_at = excluded.renewed_at`,
		pgx.QueryExecModeExec, now.system, now.timeline, now.database, now.table)
	return err
}

// withConn runs f on a connection of the pool.
func (s *Store) withConn(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := s.sql.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return conn.Raw(func(driver any) error {
		return f(driver.(*stdlib.Conn).Conn()) //nolint:forcetypeassert // the pool was made by stdlib
	})
}

// CheckPlace gives every organization's event log a new epoch if the database is not where it was when the epochs were
// given: restored, promoted or put back. It happens by itself on every new connection and whenever the heads are
// read. On SQLite, where nothing tells a file that was copied back, it does nothing: see NewEpochs.
func (s *Store) CheckPlace(ctx context.Context) error {
	if !s.Postgres() {
		return nil
	}
	return s.withConn(ctx, func(conn *pgx.Conn) error { return s.places.check(ctx, conn) })
}

// NewEpochs gives every organization's event log a new epoch, so that all clients fetch everything anew, and returns how many
// logs there are.
func (s *Store) NewEpochs(ctx context.Context) (organizations int64, err error) {
	if err := s.sql.QueryRowContext(ctx, "SELECT COUNT(*) FROM event_heads").Scan(&organizations); err != nil {
		return 0, err
	}
	if s.Postgres() {
		err = s.withConn(ctx, func(conn *pgx.Conn) error {
			query, _, err := s.places.prepare(ctx, conn)
			if err != nil {
				return err
			}
			return s.places.renew(ctx, conn, query, func(place, placeRecord) string { return RenewedByOrder })
		})
		return organizations, err
	}
	err = s.db.WithContext(ctx).Exec("UPDATE event_heads SET epoch = lower(hex(randomblob(8)))").Error
	return organizations, err
}
