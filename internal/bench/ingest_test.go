package bench

import (
	"testing"

	"github.com/stretchr/testify/require"

	"switchboard/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func seeded(t *testing.T) string {
	t.Helper()
	return testkit.PostgresFrom(t, "ingest", func(databaseURL string) error {
		p, err := startProduct(testkit.Context(t), productOptions{databaseURL: databaseURL})
		if err != nil {
			return err
		}
		defer func() { require.NoError(t, p.close()) }()
		return p.seed(testkit.Context(t), Customers{Organizations: 3, Chats: 2})
	})
}

func TestProbe(t *testing.T) {
	for _, f := range []bool{false, true} {
		found, err := probeMessage(testkit.Context(t), seeded(t), f)
		require.NoError(t, err)
		for _, s := range found.Statements {
			t.Log(s)
		}
		t.Log(found.RoundTrips, found.MessageEvent, found.ChatEvent)
	}
}
