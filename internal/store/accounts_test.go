package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/store"
	"switchboard/internal/testkit/storetest"
)

// withAccounts runs a test on both databases, each with one organization and its admin.
func withAccounts(t *testing.T, test func(t *testing.T, s *store.Store, admin domain.User)) {
	t.Helper()
	for name, database := range map[string]func(testing.TB) string{"postgres": storetest.Postgres, "sqlite": storetest.SQLite} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := store.Open(t.Context(), database(t), store.Options{})
			require.NoError(t, err)
			t.Cleanup(func() { _ = s.Close() })
			admin, err := s.CreateOrganization(t.Context(), store.Registration{
				OrganizationName: "Engines", UserName: "Ada", Email: "ada@example.com", PasswordHash: "hash 1",
			}, true)
			require.NoError(t, err)
			test(t, s, admin)
		})
	}
}

func token(session string, n int) store.RefreshToken {
	return store.RefreshToken{
		SessionID: session, Hash: fmt.Appendf(nil, "%s/%d", session, n), ExpiresAt: domain.At(time.Now().Add(time.Hour)),
	}
}

func TestASecondFirstOrganizationIsRefused(t *testing.T) {
	withAccounts(t, func(t *testing.T, s *store.Store, admin domain.User) {
		r := store.Registration{OrganizationName: "Other", UserName: "Eve", Email: "eve@example.com", PasswordHash: "h"}
		_, err := s.CreateOrganization(t.Context(), r, true)
		require.ErrorIs(t, err, store.ErrOrganizationExists)
		other, err := s.CreateOrganization(t.Context(), r, false)
		require.NoError(t, err)
		assert.NotEqual(t, admin.OrganizationID, other.OrganizationID)
		r.OrganizationName = "Third"
		_, err = s.CreateOrganization(t.Context(), r, false)
		require.ErrorIs(t, err, store.ErrEmailTaken)
		ids, err := s.OrganizationIDs(t.Context())
		require.NoError(t, err)
		assert.Equal(t, []int64{admin.OrganizationID, other.OrganizationID}, ids)
		heads, err := s.Heads(t.Context(), ids)
		require.NoError(t, err)
		assert.Len(t, heads, 2)
		assert.NotEqual(t, heads[ids[0]].Epoch, heads[ids[1]].Epoch)
	})
}

func TestASessionNeedsTodaysPassword(t *testing.T) {
	withAccounts(t, func(t *testing.T, s *store.Store, admin domain.User) {
		ctx := t.Context()
		require.NoError(t, s.ReplacePasswordHash(ctx, admin.ID, "hash 0", "stolen"), "the old hash must match: nothing happens")
		require.NoError(t, s.CreateSession(ctx, admin.ID, "hash 1", token("one", 1)))
		hash := "hash 2"
		changed, err := s.UpdateUser(ctx, admin.OrganizationID, admin.ID, store.UserChange{PasswordHash: &hash})
		require.NoError(t, err)
		assert.Equal(t, []string{"one"}, changed.Revoked)
		assert.False(t, changed.AccessChanged)
		require.ErrorIs(t, s.CreateSession(ctx, admin.ID, "hash 1", token("two", 1)), store.ErrNotFound)
		require.NoError(t, s.CreateSession(ctx, admin.ID, "hash 2", token("three", 1)))
		_, err = s.SessionUser(ctx, "one")
		require.ErrorIs(t, err, store.ErrNotFound)
		user, err := s.SessionUser(ctx, "three")
		require.NoError(t, err)
		assert.Equal(t, admin.ID, user.ID)
		assert.Equal(t, admin.OrganizationID, user.OrganizationID)
		assert.Equal(t, domain.RoleAdmin, user.Role)
		assert.True(t, user.Active)
	})
}

func TestATokenOfAnotherSessionRotatesNothing(t *testing.T) {
	withAccounts(t, func(t *testing.T, s *store.Store, admin domain.User) {
		ctx := t.Context()
		require.NoError(t, s.CreateSession(ctx, admin.ID, "hash 1", token("mine", 1)))
		require.NoError(t, s.CreateSession(ctx, admin.ID, "hash 1", token("theirs", 1)))
		_, err := s.RotateRefreshToken(ctx, token("mine", 1).Hash, token("theirs", 2), time.Second)
		require.ErrorIs(t, err, store.ErrTokenReused)
		_, err = s.RotateRefreshToken(ctx, token("mine", 1).Hash, token("mine", 2), time.Second)
		require.NoError(t, err, "the other session stands")
		_, err = s.RotateRefreshToken(ctx, token("none", 1).Hash, token("none", 2), time.Second)
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}

func TestManyIDsAreAskedForInChunks(t *testing.T) {
	withAccounts(t, func(t *testing.T, s *store.Store, admin domain.User) {
		require.NoError(t, s.CreateSession(t.Context(), admin.ID, "hash 1", token("one", 1)))
		sessions := make([]string, 40000)
		keys := make([]int64, 40000)
		for i := range sessions {
			sessions[i], keys[i] = fmt.Sprintf("session %d", i), int64(i)
		}
		sessions = append(sessions, "one")
		users, err := s.SessionUsers(t.Context(), sessions)
		require.NoError(t, err)
		assert.Len(t, users, 1)
		owners, err := s.APIKeyOwners(t.Context(), keys)
		require.NoError(t, err)
		assert.Empty(t, owners)
	})
}

func TestIsUnavailable(t *testing.T) {
	assert.False(t, store.IsUnavailable(nil))
	assert.False(t, store.IsUnavailable(errors.New("something else")))
	assert.False(t, store.IsUnavailable(store.ErrNotFound))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := store.Open(ctx, "postgres://nobody@127.0.0.1:1/none?sslmode=disable&connect_timeout=2", store.Options{})
	require.Error(t, err)
	assert.True(t, store.IsUnavailable(err), "%v", err)
	withAccounts(t, func(t *testing.T, s *store.Store, _ domain.User) {
		_, err := s.SQL().ExecContext(t.Context(), "SELECT nothing FROM nowhere")
		require.Error(t, err)
		assert.False(t, store.IsUnavailable(err), "a mistake in a statement does not pass")
	})
}
