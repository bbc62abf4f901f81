package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver"
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"switchboard/internal/domain"
)

type dialect string

const (
	postgresDialect dialect = "postgres"
	sqliteDialect   dialect = "sqlite"
)

// Options tune a Store; the zero value is good.
type Options struct {
	// MaxConnections bounds the pool; 0 means 20 (SQLite: 8).
	MaxConnections int
	// Now is the process's clock, for tests; nil means time.Now. Leases do not
	// use it: they go by the database's clock.
	Now func() time.Time
	// Patience is how long PostgreSQL waits for a process that stands still, or is
	// cut off, in mid-transaction, before it takes its locks away; 0 means 5 s. The
	// DATABASE_URL's own idle_in_transaction_session_timeout comes first.
	Patience time.Duration
	// Renewed is told when this process has given the event logs new epochs, and why (place.go); nil: nobody.
	Renewed func(reason string)
}

// Store is the database. It is safe for concurrent use.
type Store struct {
	db      *gorm.DB
	sql     *sql.DB
	dialect dialect
	path    string // SQLite's file
	now     func() time.Time
	places  *places
}

// Open connects to databaseURL (postgres://… or sqlite://path), waits for
// nothing, and brings the schema up to date under a lock.
func Open(ctx context.Context, databaseURL string, options Options) (*Store, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Renewed == nil {
		options.Renewed = func(string) {}
	}
	s := &Store{now: options.Now, places: &places{renewed: options.Renewed}}
	var (
		dialector gorm.Dialector
		path      string
		err       error
	)
	switch scheme, _, _ := strings.Cut(databaseURL, "://"); scheme {
	case "postgres", "postgresql":
		s.dialect = postgresDialect
		if s.sql, err = openPostgres(databaseURL, options.MaxConnections, options.Patience, s.places); err != nil {
			return nil, err
		}
		dialector = quietPostgres{&postgres.Dialector{Config: &postgres.Config{Conn: s.sql}}}
	case "sqlite":
		s.dialect = sqliteDialect
		path = strings.TrimPrefix(databaseURL, "sqlite://")
		s.path = path
		if s.sql, err = openSQLite(path, options.MaxConnections); err != nil {
			return nil, err
		}
		dialector = gormlite.OpenDB(s.sql)
	default:
		return nil, fmt.Errorf("DATABASE_URL must begin with postgres:// or sqlite://, it begins with %q", scheme)
	}
	if err := migrate(ctx, s.sql, s.dialect, path); err != nil {
		return nil, errors.Join(err, s.sql.Close())
	}
	if err := s.CheckPlace(ctx); err != nil {
		return nil, errors.Join(err, s.sql.Close())
	}
	s.db, err = gorm.Open(dialector, &gorm.Config{
		SkipDefaultTransaction: true,
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard, // errors are returned, and statements may hold what people wrote
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the database: %w", err), s.sql.Close())
	}
	return s, nil
}

const idleInTransaction = "idle_in_transaction_session_timeout"

// quietPostgres writes no statements out for the log. GORM does that on every Scan, whatever becomes of it: a tenth of what an
// incoming message costs, and a copy of what people wrote.
type quietPostgres struct{ *postgres.Dialector }

// Explain implements gorm.Dialector.
func (quietPostgres) Explain(string, ...any) string { return "" }

func openPostgres(databaseURL string, maxConnections int, patience time.Duration, places *places) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	// A process that stands still or is cut off in mid-transaction must not
	// keep its locks: above all that on a lease, which would hold up the
	// take-over by another worker.
	if _, set := cfg.RuntimeParams[idleInTransaction]; !set {
		if patience == 0 {
			patience = 5 * time.Second
		}
		cfg.RuntimeParams[idleInTransaction] = strconv.FormatInt(patience.Milliseconds(), 10)
	}
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(places.admit))
	if maxConnections == 0 {
		maxConnections = 20
	}
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}

func openSQLite(path string, maxConnections int) (*sql.DB, error) {
	if path == "" {
		return nil, errors.New("DATABASE_URL sqlite:// must name a file, for example sqlite://./data/switchboard.db")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the database's folder: %w", err)
	}
	// Immediate transactions: a writer waits for its turn at BEGIN, where
	// waiting is safe, and never fails half-way with SQLITE_BUSY.
	query := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {"busy_timeout(15000)", "journal_mode(wal)", "synchronous(full)", "foreign_keys(on)"},
	}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	db, err := sql.Open("sqlite3", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if maxConnections == 0 {
		maxConnections = 8
	}
	db.SetMaxOpenConns(maxConnections)
	db.SetMaxIdleConns(maxConnections)
	return db, nil
}

// Close closes the pool. Transactions that are under way fail.
func (s *Store) Close() error { return s.sql.Close() }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return s.sql.QueryRowContext(ctx, "SELECT 1").Scan(&one)
}

// SQL is the connection pool, for a library that keeps its own tables in the
// same database.
func (s *Store) SQL() *sql.DB { return s.sql }

// Postgres reports whether the database is PostgreSQL.
func (s *Store) Postgres() bool { return s.dialect == postgresDialect }

// Now is the process's clock, as stored.
func (s *Store) Now() domain.Time { return domain.At(s.now()) }

// databaseNow is an SQL expression for the database's clock in Unix
// milliseconds. In PostgreSQL it advances within a transaction.
func (s *Store) databaseNow() string {
	if s.dialect == postgresDialect {
		return "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
	}
	return "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
}

// ErrNotFound is the one row that was asked for and is not there.
var ErrNotFound = gorm.ErrRecordNotFound

// isUnique reports whether err is a violated unique key.
func isUnique(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code == "23505"
	}
	return errors.Is(err, sqlite3.CONSTRAINT_UNIQUE) || errors.Is(err, sqlite3.CONSTRAINT_PRIMARYKEY)
}

// isConcurrency reports whether the database ended a transaction only because
// of others that ran beside it: doing it again will help.
func isConcurrency(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// 23503: what a row points to was deleted meanwhile, such as a chat that
		// another one absorbed.
		return pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "23503"
	}
	return errors.Is(err, sqlite3.BUSY) || errors.Is(err, sqlite3.LOCKED)
}

// IsPermanent reports whether err is about the data (a constraint, a value out
// of range, text that the database cannot hold), so that trying again with the
// same data fails again. Anything else (connections, time-outs, shutdown, see
// IsMismatch) may pass.
func IsPermanent(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		class := pg.Code[:2]
		// Data, integrity, program limits. What a row points to may be gone (23503),
		// but is another when it is looked up anew.
		return class == "22" || class == "23" && pg.Code != "23503" || class == "54"
	}
	var lite *sqlite3.Error
	if errors.As(err, &lite) {
		return errors.Is(err, sqlite3.CONSTRAINT) || errors.Is(err, sqlite3.MISMATCH) || errors.Is(err, sqlite3.TOOBIG)
	}
	var user *domain.Error
	return errors.As(err, &user) && user.Code != domain.CodeUnavailable && user.Code != domain.CodeInternal
}

// IsMismatch reports whether the database is not the one that this program was
// made for: a table or a column is missing, or a right. It says nothing of the
// data, and may pass: while a new version is rolled out, or a right is given back.
func IsMismatch(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		class := pg.Code[:2]
		return class == "42" || class == "3F" || class == "26" // statement or rights, schema, prepared statement
	}
	var lite *sqlite3.Error
	if !errors.As(err, &lite) {
		return false
	}
	// SQLite has one code for this and for much else.
	words := lite.Error()
	return lite.Code() == sqlite3.READONLY || lite.Code() == sqlite3.ERROR &&
		(strings.Contains(words, "no such ") || strings.Contains(words, "no column named"))
}
