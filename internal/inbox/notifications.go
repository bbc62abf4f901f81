package inbox

import (
	"context"
	"fmt"

	"switchboard/internal/domain"
	"switchboard/internal/store"
)

// Notifications lists the caller's own notifications, newest first.
func (s *Service) Notifications(ctx context.Context, p domain.Principal, f store.NotificationFilter) ([]domain.Notification, error) {
	return s.store.Notifications(ctx, p.OrganizationID, p.UserID, f)
}

// ReadNotifications marks the caller's own notifications as read and returns how many are still unread (1,000 at most).
func (s *Service) ReadNotifications(ctx context.Context, p domain.Principal, read store.NotificationsRead) (unread int, err error) {
	if err := s.store.ReadNotifications(ctx, p.OrganizationID, p.UserID, read); err != nil {
		return 0, err
	}
	return s.store.UnreadNotifications(ctx, p.OrganizationID, p.UserID)
}

// FileRemover removes the bytes of files; that there are none is no error.
type FileRemover interface {
	Delete(ctx context.Context, key string) error
}

// sweepStep bounds how many files one step of SweepMedia removes.
const sweepStep = 100

// SweepMedia removes the bytes of files whose chats were deleted, and returns how many. Several processes may do it at once.
// What cannot be removed now stays for the next time.
func (s *Service) SweepMedia(ctx context.Context, from FileRemover) (removed int, err error) {
	for {
		files, err := s.store.DeletedMedia(ctx, sweepStep)
		if err != nil || len(files) == 0 {
			return removed, err
		}
		ids := make([]int64, 0, len(files))
		var failed error
		for _, f := range files {
			if f.BlobKey != "" {
				if failed = from.Delete(ctx, f.BlobKey); failed != nil {
					break
				}
			}
			ids = append(ids, f.ID)
		}
		if err := s.store.ForgetMedia(ctx, ids); err != nil {
			return removed, err
		}
		removed += len(ids)
		if failed != nil {
			return removed, fmt.Errorf("remove the bytes of deleted files: %w", failed)
		}
	}
}
