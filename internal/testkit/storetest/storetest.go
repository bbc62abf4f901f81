// Package storetest gives tests databases that hold the product's tables already. To make these takes longer than most
// tests do; here it happens once in a test process for each kind of database, and every test gets a copy.
package storetest

import (
	"context"
	"testing"

	"switchboard/internal/store"
	"switchboard/internal/testkit"
)

// Postgres returns the URL of a PostgreSQL database for this test alone, as store.Open leaves an empty one.
func Postgres(t testing.TB) string { return testkit.PostgresFrom(t, "store", open) }

// SQLite returns the URL of a SQLite database for this test alone, as store.Open leaves an empty one.
func SQLite(t testing.TB) string { return testkit.SQLiteFrom(t, "store", open) }

func open(databaseURL string) error {
	s, err := store.Open(context.Background(), databaseURL, store.Options{})
	if err != nil {
		return err
	}
	return s.Close()
}
