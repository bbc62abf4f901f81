package store

import (
	"context"
	"fmt"
	"strconv"

	"switchboard/internal/domain"
)

// NotificationFilter says which of a user's notifications a list holds.
type NotificationFilter struct {
	UnreadOnly bool
	// Before is the id where the page before ended; 0 begins with the newest.
	Before int64
	// Limit is the most notifications to return, at least 1.
	Limit int
}

// Notifications lists a user's notifications, newest first.
func (s *Store) Notifications(ctx context.Context, organizationID, userID int64, f NotificationFilter) ([]domain.Notification, error) {
	where := &conditions{}
	where.add("user_id = ?", userID)
	where.add("organization_id = ?", organizationID)
	if f.UnreadOnly {
		where.add("read_at IS NULL")
	}
	if f.Before != 0 {
		where.add("id < ?", f.Before)
	}
	found := []domain.Notification{}
	err := s.db.WithContext(ctx).Raw("SELECT id, kind, title, body, chat_id, read_at, created_at FROM notifications WHERE "+where.String()+
		" ORDER BY id DESC LIMIT "+strconv.Itoa(max(f.Limit, 1)), where.args...).Scan(&found).Error
	if err != nil {
		return nil, fmt.Errorf("list notifications: %w", err)
	}
	return found, nil
}

// maxUnread bounds the count of unread notifications: more are not told apart.
const maxUnread = 1000

// UnreadNotifications counts a user's unread notifications, up to 1,000.
func (s *Store) UnreadNotifications(ctx context.Context, organizationID, userID int64) (int, error) {
	var n int
	err := s.db.WithContext(ctx).Raw(`SELECT COUNT(*) FROM (SELECT 1 FROM notifications
		WHERE user_id = ? AND organization_id = ? AND read_at IS NULL LIMIT `+strconv.Itoa(maxUnread)+") n", userID, organizationID).Scan(&n).Error
	if err != nil {
		return 0, fmt.Errorf("count notifications: %w", err)
	}
	return n, nil
}

// NotificationsRead says which notifications were read: those with the ids, or, without ids, all up to one of them (0: all).
type NotificationsRead struct {
	IDs    []int64
	UpToID int64
}

// ReadNotifications marks a user's notifications as read. Ids that are not the user's are passed over.
func (s *Store) ReadNotifications(ctx context.Context, organizationID, userID int64, read NotificationsRead) error {
	where := &conditions{}
	where.add("user_id = ?", userID)
	where.add("organization_id = ?", organizationID)
	where.add("read_at IS NULL")
	switch {
	case len(read.IDs) > 0:
		where.add("id IN ?", read.IDs)
	case read.UpToID != 0:
		where.add("id <= ?", read.UpToID)
	}
	err := s.db.WithContext(ctx).Exec("UPDATE notifications SET read_at = ? WHERE "+where.String(), append([]any{s.Now()}, where.args...)...).Error
	if err != nil {
		return fmt.Errorf("mark notifications as read: %w", err)
	}
	return nil
}

// InsertNotification adds a line for a user of the organization.
func (tx *Tx) InsertNotification(userID int64, n domain.Notification) (domain.Notification, error) {
	n.CreatedAt = tx.now
	err := tx.db.Raw("INSERT INTO notifications (organization_id, user_id, kind, title, body, chat_id, created_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
		tx.organizationID, userID, n.Kind, n.Title, n.Body, n.ChatID, n.CreatedAt).Scan(&n.ID).Error
	if err != nil {
		return n, fmt.Errorf("insert a notification: %w", err)
	}
	return n, nil
}
