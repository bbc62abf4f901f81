package app

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"switchboard/internal/account"
	"switchboard/internal/config"
	"switchboard/internal/domain"
	"switchboard/internal/testkit"
)

// A round of housekeeping cuts every organization's log to EVENTS_KEPT and EVENT_RETENTION.
func TestHousekeepingPrunesEveryLog(t *testing.T) {
	for name, open := range map[string]func(testing.TB) string{"postgres": testkit.Postgres, "sqlite": testkit.SQLite} {
		t.Run(name, func(t *testing.T) {
			ctx := testkit.Context(t)
			cfg := config.Defaults(config.API)
			cfg.AppEnv = config.Test
			cfg.DatabaseURL, cfg.RedisURL = config.Secret(open(t)), config.Secret(testkit.Redis(t))
			cfg.JWTSecret = config.Secret(strings.Repeat("s", 32))
			cfg.EncryptionKey = config.Secret(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)))
			cfg.MediaURL = config.Secret("file://" + t.TempDir())
			cfg.Registration = config.RegistrationOpen
			cfg.EventsKept = 5
			c, err := newCore(ctx, cfg, testkit.Logger(t))
			require.NoError(t, err)
			defer func() { require.NoError(t, c.close()) }()
			node, err := newAPINode(c)
			require.NoError(t, err)

			var organizations []int64
			for i := range 2 {
				in, err := node.accounts.Register(ctx, account.Registration{
					OrganizationName: fmt.Sprint("Org ", i), Name: "Ada", Email: fmt.Sprintf("ada%d@example.com", i), Password: "correct horse battery",
				})
				require.NoError(t, err)
				who := domain.Principal{UserID: in.User.ID, OrganizationID: in.User.OrganizationID, Role: in.User.Role}
				organizations = append(organizations, who.OrganizationID)
				for n := range 9 {
					_, err := c.inbox.CreateChannel(ctx, who, domain.KindTelegram, "Bot", map[string]any{
						"botToken": fmt.Sprintf("%d:AAExampleExampleExampleExampleExam", 100000+10*i+n),
					})
					require.NoError(t, err)
				}
			}
			kept := func(organization int64) (events, oldest int64) {
				require.NoError(t, c.store.SQL().QueryRowContext(ctx,
					"SELECT COUNT(*), COALESCE(MIN(seq), 0) FROM events WHERE organization_id = $1", organization).Scan(&events, &oldest))
				return events, oldest
			}
			before := map[int64]int64{}
			for _, id := range organizations {
				n, oldest := kept(id)
				require.Greater(t, n, int64(5))
				require.EqualValues(t, 1, oldest)
				before[id] = n
			}
			_, err = c.store.AskSession(ctx, 1, "resolve", "1", -time.Minute, 1) // whoever asked it is gone
			require.NoError(t, err)
			c.tidy(ctx, node.accounts)
			var questions int
			require.NoError(t, c.store.SQL().QueryRowContext(ctx, "SELECT COUNT(*) FROM session_requests").Scan(&questions))
			require.Zero(t, questions)
			for _, id := range organizations {
				n, oldest := kept(id)
				require.EqualValues(t, 5, n, "EVENTS_KEPT")
				require.Equal(t, before[id]-4, oldest, "the newest stay")
			}

			c.cfg.EventRetention = -time.Hour // all of them are older than that
			c.tidy(ctx, node.accounts)
			for _, id := range organizations {
				n, _ := kept(id)
				require.Zero(t, n, "EVENT_RETENTION")
			}
		})
	}
}
