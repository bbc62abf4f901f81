package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// On PostgreSQL the check of the lease costs keys no round trip of its own: it
// travels with the BEGIN of a transaction, or with the one statement that is its
// own transaction. A number has several of both for each message.

// keysEnd bounds a COMMIT or ROLLBACK.
const keysEnd = 10 * time.Second

// postgresKeysTx is a transaction on a connection of the pool's that BEGIN and
// the check have gone to together.
type postgresKeysTx struct {
	conn *sql.Conn
}

var _ keysTransaction = (*postgresKeysTx)(nil)

// heldQuery asks for the lease: a row if it is held. The row stays locked until
// the transaction ends.
func (s *Store) heldQuery() string {
	return "SELECT 1 FROM leases WHERE channel_id = $1 AND worker_id = $2 AND term = $3 AND expires_at > " + s.databaseNow() + sharesLease
}

// raw runs fn on a connection's own driver.
func raw(conn *sql.Conn, fn func(*pgx.Conn) error) error {
	return conn.Raw(func(d any) error {
		own, is := d.(*stdlib.Conn)
		if !is {
			return fmt.Errorf("store: keys need pgx, not %T", d)
		}
		return fn(own.Conn())
	})
}

func (c *keysConn) beginPostgres(ctx context.Context) (keysTransaction, error) {
	conn, err := c.store.sql.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx := &postgresKeysTx{conn: conn}
	err = raw(conn, func(own *pgx.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue("BEGIN")
		batch.Queue(c.store.heldQuery(), c.lease.ChannelID, c.lease.WorkerID, c.lease.Term)
		results := own.SendBatch(ctx, batch)
		_, err := results.Exec()
		if err == nil {
			var held int
			err = results.QueryRow().Scan(&held)
		}
		if closed := results.Close(); err == nil {
			err = closed
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrLeaseLost
	}
	if err != nil {
		_ = tx.rollback() //nolint:contextcheck // it outlives ctx; the first failure is the one that counts
		return nil, err
	}
	return tx, nil
}

func (t *postgresKeysTx) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return t.conn.ExecContext(ctx, query, values(args)...)
}

func (t *postgresKeysTx) query(ctx context.Context, query string, args []driver.NamedValue) (*sql.Rows, error) {
	return t.conn.QueryContext(ctx, query, values(args)...)
}

// commit ends the transaction. One in which a statement has failed PostgreSQL
// rolls back, and says so in no other way than by the word that it answers.
func (t *postgresKeysTx) commit() error {
	return t.end("COMMIT")
}

func (t *postgresKeysTx) rollback() error {
	return t.end("ROLLBACK")
}

func (t *postgresKeysTx) end(how string) error {
	ctx, cancel := context.WithTimeout(context.Background(), keysEnd)
	defer cancel()
	var tag pgconn.CommandTag
	err := raw(t.conn, func(own *pgx.Conn) error {
		var err error
		tag, err = own.Exec(ctx, how)
		if err != nil && own.PgConn().TxStatus() != 'I' {
			_ = own.Close(ctx) // so that the database ends it, and nobody gets the connection
		}
		return err
	})
	if err == nil && tag.String() != how {
		err = pgx.ErrTxCommitRollback
	}
	return errors.Join(err, t.conn.Close())
}

// lostLease is what the check of execPostgres fails with: the database divides
// by the number of leases that are held.
const lostLease = "22012"

// execPostgres runs a statement that is a transaction of its own together with
// the check: what is sent at once is one transaction.
func (c *keysConn) execPostgres(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	given := make([]any, len(args))
	for i, a := range args {
		value, err := driver.DefaultParameterConverter.ConvertValue(a.Value)
		if err != nil {
			return nil, fmt.Errorf("store: parameter %d of a key: %w", a.Ordinal, err)
		}
		given[i] = value
	}
	conn, err := c.store.sql.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var tag pgconn.CommandTag
	err = raw(conn, func(own *pgx.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue("SELECT 1 / COUNT(*) FROM ("+c.store.heldQuery()+") held", c.lease.ChannelID, c.lease.WorkerID, c.lease.Term)
		batch.Queue(query, given...)
		results := own.SendBatch(ctx, batch)
		_, err := results.Exec()
		var said *pgconn.PgError
		if errors.As(err, &said) && said.Code == lostLease {
			err = ErrLeaseLost
		}
		if err == nil {
			tag, err = results.Exec()
		}
		if closed := results.Close(); err == nil {
			err = closed
		}
		return err
	})
	return driver.RowsAffected(tag.RowsAffected()), err
}
