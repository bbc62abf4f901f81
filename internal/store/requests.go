package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
)

// SessionRequest is a question to the session of a channel.
type SessionRequest struct {
	ID, ChannelID  int64
	Kind, Argument string
}

// ErrManyRequests means that as many questions to the session of a channel wait
// for their answers as may.
var ErrManyRequests = errors.New("too many questions to the session of the channel are open")

// AskSession asks the session of a channel something, while fewer than limit
// other questions to it are open. Nobody answers after ttl.
func (s *Store) AskSession(ctx context.Context, channelID int64, kind, argument string, ttl time.Duration, limit int) (int64, error) {
	var id int64
	err := s.db.WithContext(ctx).Transaction(func(db *gorm.DB) error {
		if s.Postgres() { // those who ask at once are counted one after the other
			if err := db.Exec("SELECT 1 FROM channels WHERE id = ? FOR NO KEY UPDATE", channelID).Error; err != nil {
				return err
			}
		}
		return db.Raw("INSERT INTO session_requests (channel_id, kind, argument, expires_at) SELECT @channel, @kind, @argument, "+s.databaseNow()+
			" + @ttl WHERE (SELECT COUNT(*) FROM session_requests WHERE channel_id = @channel AND NOT done AND expires_at > "+s.databaseNow()+
			") < @limit RETURNING id",
			map[string]any{"channel": channelID, "kind": kind, "argument": argument, "ttl": ttl.Milliseconds(), "limit": limit}).Scan(&id).Error
	})
	if err != nil {
		return 0, fmt.Errorf("ask the session of channel %d: %w", channelID, err)
	}
	if id == 0 {
		return 0, ErrManyRequests
	}
	return id, nil
}

// SessionAnswer returns the answer to a request, once there is one.
func (s *Store) SessionAnswer(ctx context.Context, id int64) (answer string, done bool, err error) {
	var row struct {
		Answer string
		Done   bool
	}
	err = s.db.WithContext(ctx).Raw("SELECT answer, done FROM session_requests WHERE id = ?", id).Scan(&row).Error
	if err != nil {
		return "", false, fmt.Errorf("look for an answer: %w", err)
	}
	return row.Answer, row.Done, nil
}

// ForgetSessionRequest removes a request, answered or not.
func (s *Store) ForgetSessionRequest(ctx context.Context, id int64) error {
	return s.db.WithContext(ctx).Exec("DELETE FROM session_requests WHERE id = ?", id).Error
}

// SessionRequests lists what is asked of the session of a channel, oldest first.
func (s *Store) SessionRequests(ctx context.Context, channelID int64, limit int) ([]SessionRequest, error) {
	var rows []SessionRequest
	err := s.db.WithContext(ctx).Raw("SELECT id, channel_id, kind, argument FROM session_requests WHERE channel_id = ? AND NOT done AND expires_at > "+
		s.databaseNow()+" ORDER BY id LIMIT ?", channelID, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list requests to the session of channel %d: %w", channelID, err)
	}
	return rows, nil
}

// AnswerSession answers a request. Under a lease that is lost nothing is written.
func (s *Store) AnswerSession(ctx context.Context, lease Lease, id int64, answer string) error {
	result := s.db.WithContext(ctx).Exec(`UPDATE session_requests SET done = TRUE, answer = ? WHERE id = ? AND NOT done AND EXISTS (
			SELECT 1 FROM leases WHERE channel_id = ? AND worker_id = ? AND term = ? AND expires_at > `+s.databaseNow()+`)`,
		answer, id, lease.ChannelID, lease.WorkerID, lease.Term)
	if result.Error != nil {
		return fmt.Errorf("answer a request: %w", result.Error)
	}
	return nil
}

// ForgetSessionRequests removes requests that nobody waits for any more, as who
// asked was ended before the answer came.
func (s *Store) ForgetSessionRequests(ctx context.Context) error {
	err := s.db.WithContext(ctx).Exec("DELETE FROM session_requests WHERE expires_at < " + s.databaseNow()).Error
	if err != nil {
		return fmt.Errorf("forget old requests to sessions: %w", err)
	}
	return nil
}
