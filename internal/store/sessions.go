package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"switchboard/internal/domain"
)

var lockForUpdate = clause.Locking{Strength: clause.LockingStrengthUpdate}

// ErrTokenReused means that a refresh token was presented that had been replaced before: two have it, so its session is
// revoked.
var ErrTokenReused = errors.New("the refresh token was used before")

type sessionRow struct {
	ID        string `gorm:"primaryKey"`
	UserID    int64
	CreatedAt domain.Time `gorm:"autoCreateTime:false"`
	RevokedAt *domain.Time
}

func (sessionRow) TableName() string { return "sessions" }

type refreshTokenRow struct {
	TokenHash []byte `gorm:"primaryKey"`
	SessionID string
	ExpiresAt domain.Time
	UsedAt    *domain.Time
}

func (refreshTokenRow) TableName() string { return "refresh_tokens" }

// RefreshToken is a refresh token as it is stored.
type RefreshToken struct {
	SessionID string
	Hash      []byte
	ExpiresAt domain.Time
}

// CreateSession records a sign-in of a user with its first refresh token. It returns ErrNotFound if the user is not active
// any more or passwordHash is not that of the password any more: such a change revokes all sessions, also one that is
// about to begin.
func (s *Store) CreateSession(ctx context.Context, userID int64, passwordHash string, token RefreshToken) error {
	return s.transaction(ctx, func(db *gorm.DB) error {
		var user userRow
		if err := s.forUpdate(db.Where("id = ? AND active AND password_hash = ?", userID, passwordHash)).Take(&user).Error; err != nil {
			return err
		}
		if err := db.Create(&sessionRow{ID: token.SessionID, UserID: userID, CreatedAt: s.Now()}).Error; err != nil {
			return fmt.Errorf("create session: %w", err)
		}
		return createRefreshToken(db, token)
	})
}

func createRefreshToken(db *gorm.DB, token RefreshToken) error {
	row := refreshTokenRow{TokenHash: token.Hash, SessionID: token.SessionID, ExpiresAt: token.ExpiresAt}
	if err := db.Create(&row).Error; err != nil {
		return fmt.Errorf("create refresh token: %w", err)
	}
	return nil
}

// RotateRefreshToken uses up the token with the hash old and puts next, of the same session, in its place. A token may be
// used again until grace after its first use. Later, or if the session does not know it any more, it returns
// ErrTokenReused and has revoked the session. ErrNotFound stands for every session or token that has ended otherwise:
// unknown, revoked, expired, of an inactive user.
func (s *Store) RotateRefreshToken(ctx context.Context, old []byte, next RefreshToken, grace time.Duration) (domain.User, error) {
	var user domain.User
	var reused bool
	err := s.transaction(ctx, func(db *gorm.DB) error {
		reused = false
		now := s.Now()
		var session sessionRow
		if err := s.forUpdate(db.Where("id = ? AND revoked_at IS NULL", next.SessionID)).Take(&session).Error; err != nil {
			return err
		}
		var row userRow
		if err := db.Where("id = ? AND active", session.UserID).Take(&row).Error; err != nil {
			return err
		}
		user = row.user()
		var token refreshTokenRow
		err := db.Where("token_hash = ? AND session_id = ?", old, session.ID).Take(&token).Error
		switch {
		case errors.Is(err, ErrNotFound) || (err == nil && token.UsedAt != nil && now > token.UsedAt.Add(grace)):
			reused = true
			return revokeSession(db, session.ID, now)
		case err != nil:
			return err
		case now >= token.ExpiresAt:
			return ErrNotFound
		}
		if err := db.Exec("UPDATE refresh_tokens SET used_at = ? WHERE token_hash = ? AND used_at IS NULL", now, old).Error; err != nil {
			return fmt.Errorf("use up refresh token: %w", err)
		}
		// What was used before the grace time is known by its absence.
		if err := db.Exec("DELETE FROM refresh_tokens WHERE session_id = ? AND used_at < ?", session.ID, now.Add(-grace)).Error; err != nil {
			return fmt.Errorf("forget used refresh tokens: %w", err)
		}
		return createRefreshToken(db, next)
	})
	if err == nil && reused {
		err = ErrTokenReused
	}
	return user, err
}

// RevokeSession ends a session of a user. Ending it twice is no error.
func (s *Store) RevokeSession(ctx context.Context, userID int64, sessionID string) error {
	return s.transaction(ctx, func(db *gorm.DB) error {
		var session sessionRow
		err := s.forUpdate(db.Where("id = ? AND user_id = ? AND revoked_at IS NULL", sessionID, userID)).Take(&session).Error
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return revokeSession(db, sessionID, s.Now())
	})
}

func revokeSession(db *gorm.DB, sessionID string, now domain.Time) error {
	if err := db.Exec("UPDATE sessions SET revoked_at = ? WHERE id = ?", now, sessionID).Error; err != nil {
		return fmt.Errorf("revoke session: %w", err)
	}
	if err := db.Exec("DELETE FROM refresh_tokens WHERE session_id = ?", sessionID).Error; err != nil {
		return fmt.Errorf("forget refresh tokens: %w", err)
	}
	return nil
}

// revokeSessions ends all sessions of a user but keep, and names them.
func (s *Store) revokeSessions(db *gorm.DB, userID int64, keep string) ([]string, error) {
	var ids []string
	// The order is that of every other transaction that locks several.
	query := db.Model(&sessionRow{}).Where("user_id = ? AND revoked_at IS NULL AND id <> ?", userID, keep).Order("id")
	if err := s.forUpdate(query).Pluck("id", &ids).Error; err != nil {
		return nil, fmt.Errorf("find sessions: %w", err)
	}
	now := s.Now()
	for _, id := range ids {
		if err := revokeSession(db, id, now); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// SessionUser returns the user of a session that stands, or ErrNotFound.
func (s *Store) SessionUser(ctx context.Context, sessionID string) (domain.User, error) {
	users, err := s.SessionUsers(ctx, []string{sessionID})
	if err != nil {
		return domain.User{}, err
	}
	user, found := users[sessionID]
	if !found {
		return domain.User{}, ErrNotFound
	}
	return user, nil
}

// maxParameters is how many ids one query asks for: SQLite allows 32,766 parameters, PostgreSQL 65,535.
const maxParameters = 10000

// SessionUsers returns the active users of those of the sessions that stand, in one query per 10,000.
func (s *Store) SessionUsers(ctx context.Context, sessionIDs []string) (map[string]domain.User, error) {
	users := make(map[string]domain.User, len(sessionIDs))
	for len(sessionIDs) > 0 {
		chunk := sessionIDs[:min(len(sessionIDs), maxParameters)]
		sessionIDs = sessionIDs[len(chunk):]
		var rows []struct {
			SessionID string
			User      userColumns `gorm:"embedded"`
		}
		err := s.db.WithContext(ctx).Raw("SELECT s.id AS session_id, "+userColumnList+
			" FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id IN ? AND s.revoked_at IS NULL AND u.active", chunk).Scan(&rows).Error
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			users[r.SessionID] = r.User.user()
		}
	}
	return users, nil
}

// userColumns is a user in the result of a join; userColumnList selects it from users u.
type userColumns struct {
	UserID         int64
	OrganizationID int64
	UserName       string
	Email          string
	UserRole       domain.Role
	Active         bool
}

const userColumnList = "u.id AS user_id, u.organization_id, u.name AS user_name, u.email, u.role AS user_role, u.active"

func (c userColumns) user() domain.User {
	return domain.User{
		ID: c.UserID, OrganizationID: c.OrganizationID, Name: c.UserName, Email: c.Email, Role: c.UserRole, Active: c.Active,
	}
}

// PruneSessions deletes what nobody can use any more: expired refresh tokens, sessions without one, and sessions revoked
// before the given time. It returns how many sessions went.
func (s *Store) PruneSessions(ctx context.Context, revokedBefore domain.Time) (int64, error) {
	db := s.db.WithContext(ctx)
	// Not at once, so that it never meets a rotation of the same token.
	if err := db.Exec("DELETE FROM refresh_tokens WHERE expires_at < ?", s.Now().Add(-24*time.Hour)).Error; err != nil {
		return 0, fmt.Errorf("delete expired refresh tokens: %w", err)
	}
	// A session and its first token are committed together, and a revoked one keeps its row for a while so that what is
	// asked of it has one answer.
	result := db.Exec("DELETE FROM sessions WHERE revoked_at < ? OR (revoked_at IS NULL AND NOT EXISTS "+
		"(SELECT 1 FROM refresh_tokens t WHERE t.session_id = sessions.id))", revokedBefore)
	if result.Error != nil {
		return 0, fmt.Errorf("delete ended sessions: %w", result.Error)
	}
	return result.RowsAffected, nil
}
