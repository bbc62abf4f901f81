package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"strings"
	"sync/atomic"
)

// Keys is the database as a provider's library sees it that keeps its own
// tables in it: every write happens in a transaction that checks a lease, so
// that a worker which lost the channel changes no key any more. Reads are free.
//
// It borrows the Store's connections and has none of its own. Close it when the
// session has ended.
type Keys struct {
	*sql.DB
	failed atomic.Pointer[func(error)]
}

// KeysDialect is the name of the database for such libraries: "pgx" or
// "sqlite3".
func (s *Store) KeysDialect() string {
	if s.Postgres() {
		return "pgx"
	}
	return "sqlite3"
}

// Keys opens the database for the tables of one session.
func (s *Store) Keys(lease Lease) *Keys {
	k := &Keys{}
	k.DB = sql.OpenDB(&keysConnector{store: s, lease: lease, keys: k})
	// Its connections are only views: none need be kept.
	k.SetMaxIdleConns(1)
	return k
}

// OnFailure sets what is told of each call that fails, before the call returns.
// What the caller itself has broken off is no failure.
func (k *Keys) OnFailure(tell func(error)) { k.failed.Store(&tell) }

// note tells of a failure and returns it. A time-out is one, unless it is the
// caller's own: it is the context that tells, not the error.
func (k *Keys) note(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, sql.ErrNoRows) || errors.Is(err, io.EOF) || ctx.Err() != nil {
		return err
	}
	if tell := k.failed.Load(); tell != nil && *tell != nil {
		(*tell)(err)
	}
	return err
}

type keysConnector struct {
	store *Store
	lease Lease
	keys  *Keys
}

func (c *keysConnector) Connect(context.Context) (driver.Conn, error) {
	return &keysConn{keysConnector: c}, nil
}

func (c *keysConnector) Driver() driver.Driver { return keysDriver{} }

// keysDriver exists for database/sql alone.
type keysDriver struct{}

func (keysDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("store: keys are opened by Store.Keys")
}

// keysConn is one view of the Store's pool; within a transaction it has a
// connection of it.
type keysConn struct {
	*keysConnector
	tx keysTransaction // nil outside of transactions
}

// keysTransaction is a transaction in which the lease was checked.
type keysTransaction interface {
	exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error)
	query(ctx context.Context, query string, args []driver.NamedValue) (*sql.Rows, error)
	commit() error
	rollback() error
}

var (
	_ driver.ConnBeginTx       = (*keysConn)(nil)
	_ driver.ExecerContext     = (*keysConn)(nil)
	_ driver.QueryerContext    = (*keysConn)(nil)
	_ driver.NamedValueChecker = (*keysConn)(nil)
)

func (c *keysConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("store: keys have no prepared statements")
}

func (c *keysConn) Close() error { return nil }

func (c *keysConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// CheckNamedValue leaves every conversion to the database's own driver.
func (c *keysConn) CheckNamedValue(*driver.NamedValue) error { return nil }

// BeginTx begins a transaction of the Store's and checks the lease in it.
func (c *keysConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	tx, err := c.begin(ctx)
	if err != nil {
		return nil, c.keys.note(ctx, err)
	}
	c.tx = tx
	return keysTx{c: c, ctx: ctx}, nil
}

func (c *keysConn) begin(ctx context.Context) (keysTransaction, error) {
	if c.store.Postgres() {
		return c.beginPostgres(ctx)
	}
	tx, err := c.store.sql.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	var held int
	query := "SELECT 1 FROM leases WHERE channel_id = ? AND worker_id = ? AND term = ? AND expires_at > " + c.store.databaseNow()
	err = tx.QueryRowContext(ctx, query, c.lease.ChannelID, c.lease.WorkerID, c.lease.Term).Scan(&held)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrLeaseLost
	}
	if err != nil {
		_ = tx.Rollback() // the first failure is the one that counts
		return nil, err
	}
	return plainKeysTx{tx}, nil
}

// plainKeysTx is a transaction as database/sql has them.
type plainKeysTx struct{ tx *sql.Tx }

func (t plainKeysTx) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return t.tx.ExecContext(ctx, query, values(args)...)
}

func (t plainKeysTx) query(ctx context.Context, query string, args []driver.NamedValue) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, query, values(args)...)
}

func (t plainKeysTx) commit() error   { return t.tx.Commit() }
func (t plainKeysTx) rollback() error { return t.tx.Rollback() }

type keysTx struct {
	c   *keysConn
	ctx context.Context //nolint:containedctx // of the transaction
}

func (t keysTx) Commit() error {
	tx := t.c.tx
	t.c.tx = nil
	return t.c.keys.note(t.ctx, tx.commit())
}

func (t keysTx) Rollback() error {
	tx := t.c.tx
	t.c.tx = nil
	return tx.rollback()
}

func values(args []driver.NamedValue) []any {
	all := make([]any, len(args))
	for i, a := range args {
		all[i] = a.Value
		if a.Name != "" {
			all[i] = sql.Named(a.Name, a.Value)
		}
	}
	return all
}

// ExecContext runs a statement, outside of a transaction in one of its own.
func (c *keysConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.tx != nil {
		result, err := c.tx.exec(ctx, query, args)
		return result, c.keys.note(ctx, err)
	}
	if c.store.Postgres() {
		result, err := c.execPostgres(ctx, query, args)
		return result, c.keys.note(ctx, err)
	}
	tx, err := c.begin(ctx)
	if err != nil {
		return nil, c.keys.note(ctx, err)
	}
	result, err := tx.exec(ctx, query, args)
	if err != nil {
		_ = tx.rollback() // the statement's failure is the one that counts
		return nil, c.keys.note(ctx, err)
	}
	return result, c.keys.note(ctx, tx.commit())
}

// errNotARead is a statement that could write where no lease is checked.
var errNotARead = errors.New("store: outside of a transaction only a SELECT may return rows from keys")

// QueryContext reads.
func (c *keysConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.tx == nil && !isSelect(query) {
		return nil, c.keys.note(ctx, errNotARead)
	}
	var rows *sql.Rows
	var err error
	if c.tx != nil {
		rows, err = c.tx.query(ctx, query, args)
	} else {
		rows, err = c.store.sql.QueryContext(ctx, query, values(args)...)
	}
	if err != nil {
		return nil, c.keys.note(ctx, err)
	}
	columns, err := rows.Columns()
	all := &keysRows{ctx: ctx, rows: rows, columns: columns, keys: c.keys}
	if err != nil {
		return nil, c.keys.note(ctx, errors.Join(err, all.Close()))
	}
	return all, nil
}

func isSelect(query string) bool {
	query = strings.TrimLeft(query, " \t\r\n(")
	return len(query) >= 7 && strings.EqualFold(query[:6], "select") && !strings.Contains(strings.ToLower(query), "for update")
}

// keysRows hands rows through.
type keysRows struct {
	ctx     context.Context //nolint:containedctx // of the query
	rows    *sql.Rows
	columns []string
	keys    *Keys
}

func (r *keysRows) Columns() []string { return r.columns }

func (r *keysRows) Close() error { return r.rows.Close() }

func (r *keysRows) Next(into []driver.Value) error {
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return r.keys.note(r.ctx, err)
		}
		return io.EOF
	}
	row, targets := make([]any, len(into)), make([]any, len(into))
	for i := range row {
		targets[i] = &row[i]
	}
	if err := r.rows.Scan(targets...); err != nil {
		return r.keys.note(r.ctx, err)
	}
	for i, value := range row {
		into[i] = value
	}
	return nil
}
